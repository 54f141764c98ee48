package config

import "reflect"

// Changes are the keys whose values differ between two configurations, in the order
// of the file, such as "log.level". A list counts as one value, and so does the list
// of models: what became of a single model is for the daemon to find out.
func Changes(from, to *Config) []string {
	return appendChanges(nil, "", reflect.ValueOf(*from), reflect.ValueOf(*to))
}

func appendChanges(keys []string, path string, from, to reflect.Value) []string {
	for i := range from.NumField() {
		key := from.Type().Field(i).Tag.Get("yaml")
		if key == "-" {
			continue
		}
		a, b := from.Field(i), to.Field(i)
		if key == ",inline" {
			keys = appendChanges(keys, path, a, b)
			continue
		}
		if path != "" {
			key = path + "." + key
		}
		switch a.Kind() {
		case reflect.Struct:
			keys = appendChanges(keys, key, a, b)
		case reflect.Slice:
			// A list that is not given and one that is given empty mean the same.
			if a.Len()+b.Len() > 0 && !reflect.DeepEqual(a.Interface(), b.Interface()) {
				keys = append(keys, key)
			}
		default:
			if !a.Equal(b) {
				keys = append(keys, key)
			}
		}
	}
	return keys
}
