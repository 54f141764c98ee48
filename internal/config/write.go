package config

import (
	"bytes"
	"encoding"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// YAML is a file that says what c says: the keys whose values are not the defaults. Load reads it back as c, but for Legacy and
// Warnings, of which no file of this kind has any.
func (c *Config) YAML() ([]byte, error) {
	w := yamlWriter{run: c.ModelDefaults}
	root := w.mapping(reflect.ValueOf(*c), reflect.ValueOf(*Default()))
	if len(root.Content) == 0 {
		return []byte("# All keys have their defaults.\n"), nil
	}
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(root); err != nil {
		return nil, fmt.Errorf("writing the configuration: %w", err)
	}
	return out.Bytes(), e.Close()
}

// yamlWriter is yamlDecoder the other way round.
type yamlWriter struct {
	run Run // what a model starts from
}

// mapping has the fields of value that are not those of base.
func (w yamlWriter) mapping(value, base reflect.Value) *yaml.Node {
	node := &yaml.Node{Kind: yaml.MappingNode}
	for i := range value.NumField() {
		key := value.Type().Field(i).Tag.Get("yaml")
		v, b := value.Field(i), base.Field(i)
		switch {
		case key == "-":
		case key == ",inline":
			node.Content = append(node.Content, w.mapping(v, b).Content...)
		case v.Kind() == reflect.Slice && v.Len()+b.Len() == 0, v.Kind() == reflect.Map && v.Len()+b.Len() == 0:
		case reflect.DeepEqual(v.Interface(), b.Interface()):
		default:
			node.Content = append(node.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, w.value(v, b))
		}
	}
	return node
}

func (w yamlWriter) value(value, base reflect.Value) *yaml.Node {
	switch v := value.Interface().(type) {
	case time.Duration:
		return plainNode(v.String())
	case Size:
		return plainNode(v.String())
	case fs.FileMode:
		return plainNode(fmt.Sprintf("%#04o", v.Perm()))
	case slog.Level:
		return plainNode(strings.ToLower(v.String()))
	case encoding.TextMarshaler:
		text, err := v.MarshalText()
		if err != nil {
			panic("BUG: no text of " + value.Type().String())
		}
		return textNode(string(text))
	}
	switch value.Kind() {
	case reflect.Struct:
		return w.mapping(value, base)
	case reflect.Slice:
		list := &yaml.Node{Kind: yaml.SequenceNode}
		from := reflect.Zero(value.Type().Elem())
		if value.Type().Elem() == reflect.TypeFor[Model]() {
			from = reflect.ValueOf(Model{Run: w.run})
		} else if value.Type().Elem().Kind() != reflect.Struct {
			list.Style = yaml.FlowStyle
		}
		for i := range value.Len() {
			list.Content = append(list.Content, w.value(value.Index(i), from))
		}
		return list
	case reflect.Map:
		node := &yaml.Node{Kind: yaml.MappingNode}
		entries := value.Interface().(map[string]string)
		for _, key := range slices.Sorted(maps.Keys(entries)) {
			node.Content = append(node.Content, textNode(key), textNode(entries[key]))
		}
		return node
	case reflect.Bool:
		return plainNode(strconv.FormatBool(value.Bool()))
	case reflect.Int:
		return plainNode(strconv.FormatInt(value.Int(), 10))
	case reflect.Float64:
		return plainNode(strconv.FormatFloat(value.Float(), 'g', -1, 64))
	case reflect.String:
		return textNode(value.String())
	}
	panic("BUG: no YAML form for " + value.Type().String())
}

func plainNode(text string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Value: text} }

// textNode is quoted where YAML would take it for something else.
func textNode(text string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
}
