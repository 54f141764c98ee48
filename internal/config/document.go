package config

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Document is a YAML file of another kind than the daemon's that was read by the
// same rules: what is unknown, given twice or of the wrong form is a mistake with
// its line.
type Document struct{ origin origin }

// ReadDocument reads the file at path over the struct that into points to, which has
// the defaults. Its fields may be what those of Config may be, and maps of strings.
// The error has one line per mistake; into is then not to be used.
func ReadDocument(path string, into any) (Document, error) {
	data, err := readBounded(path)
	if err != nil {
		return Document{}, err
	}
	lines, err := decode(bytes.TrimPrefix(data, []byte("\ufeff")), reflect.ValueOf(into).Elem())
	if err != nil {
		return Document{}, fileError(path, err)
	}
	return Document{origin{file: path, lines: lines}}, nil
}

func decode(data []byte, into reflect.Value) (map[string]int, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		return nil, fmt.Errorf("not YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	d := &yamlDecoder{lines: map[string]int{}}
	if len(document.Content) > 0 {
		d.value(document.Content[0], into, "")
	}
	return d.lines, errors.Join(d.mistakes...)
}

// Gives tells whether the file has a value at the path of a key.
func (d Document) Gives(path string) bool { return d.origin.gives(path) }

// Mistake is a sentence about the value at the path of a key, with the file, and the
// line where the file gives it.
func (d Document) Mistake(path, format string, args ...any) error {
	at := d.origin.of(path)
	if at == "" {
		at = d.origin.file + ": "
	}
	return fmt.Errorf("%s%s: %s", at, path, fmt.Sprintf(format, args...))
}

// Missing are the paths of the keys of the struct that into points to which the file
// does not give; what any entry of a list gives is given. It is for tests that hold an
// example to the code.
func (d Document) Missing(into any) []string {
	given, index := map[string]bool{}, regexp.MustCompile(`\[[0-9]+\]`)
	for path := range d.origin.lines {
		given[index.ReplaceAllString(path, "")] = true
	}
	var missing []string
	var look func(value reflect.Value, path string)
	look = func(value reflect.Value, path string) {
		fields := map[string]reflect.Value{}
		keysOf(value, fields)
		for key, field := range fields {
			inner := strings.TrimPrefix(path+"."+key, ".")
			if !given[inner] {
				missing = append(missing, inner)
			}
			switch {
			case field.Kind() == reflect.Struct:
				look(field, inner)
			case field.Kind() == reflect.Slice && field.Type().Elem().Kind() == reflect.Struct:
				look(reflect.Zero(field.Type().Elem()), inner)
			}
		}
	}
	look(reflect.ValueOf(into).Elem(), "")
	slices.Sort(missing)
	return missing
}
