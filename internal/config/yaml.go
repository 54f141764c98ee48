package config

import (
	"encoding"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// parseYAML overlays a YAML document onto config: keys that are absent keep
// their value. lines says where each key path stands. All mistakes are reported,
// joined; config is then not to be used.
func parseYAML(data []byte, config *Config) (lines map[string]int, err error) {
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		return nil, fmt.Errorf("not YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	d := &yamlDecoder{lines: map[string]int{}}
	if len(document.Content) == 0 {
		// Nothing but comments: all defaults.
		return d.lines, nil
	}
	root := document.Content[0]
	// A model starts from the defaults section, wherever in the file that stands.
	d.topLevel(root, reflect.ValueOf(config).Elem())
	if err := errors.Join(d.mistakes...); err != nil {
		return nil, err
	}
	return d.lines, nil
}

// yamlDecoder fills a Config from YAML nodes. The yaml package could do that,
// but it would take 5 for five nanoseconds, "yes" for a string, and could not
// say which key was meant.
type yamlDecoder struct {
	lines    map[string]int
	mistakes []error
	defaults Run
}

func (d *yamlDecoder) topLevel(node *yaml.Node, config reflect.Value) {
	const first = "model_defaults"
	if node.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value != first {
				continue
			}
			section := config.FieldByName("ModelDefaults")
			// A trial run, for the values alone: mistakes are noted in the real one.
			trial := &yamlDecoder{lines: map[string]int{}}
			trial.value(node.Content[i+1], section, first)
			d.defaults = section.Interface().(Run)
			d.value(node, config, "")
			return
		}
	}
	d.defaults = config.FieldByName("ModelDefaults").Interface().(Run)
	d.value(node, config, "")
}

func (d *yamlDecoder) mistake(node *yaml.Node, path, format string, args ...any) {
	if len(d.mistakes) == maxWarnings {
		d.mistakes = append(d.mistakes, errors.New("there are further mistakes, which are not listed"))
	}
	if len(d.mistakes) > maxWarnings {
		return
	}
	text := fmt.Sprintf(format, args...)
	if path != "" {
		text = path + ": " + text
	}
	d.mistakes = append(d.mistakes, fmt.Errorf("line %d: %s", node.Line, text))
}

// value decodes one node into the field at path. Its recursion follows the
// fields of Config, so a document cannot make it deeper than Config is.
func (d *yamlDecoder) value(node *yaml.Node, to reflect.Value, path string) {
	d.lines[path] = node.Line
	if node.Kind == yaml.AliasNode {
		d.mistake(node, path, "aliases are not supported, write the value out")
		return
	}
	if node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
		d.mistake(node, path, "no value given: remove the key to have the default")
		return
	}
	switch to.Interface().(type) {
	case time.Duration:
		scalar(d, node, to, path, parseDuration)
		return
	case Size:
		scalar(d, node, to, path, ParseSize)
		return
	case fs.FileMode:
		scalar(d, node, to, path, parseMode)
		return
	case slog.Level:
		scalar(d, node, to, path, parseLevel)
		return
	}
	if own, ok := to.Addr().Interface().(encoding.TextUnmarshaler); ok {
		scalar(d, node, to, path, func(text string) (any, error) {
			if err := own.UnmarshalText([]byte(text)); err != nil {
				return nil, err
			}
			return to.Interface(), nil
		})
		return
	}
	switch to.Kind() {
	case reflect.Struct:
		d.mapping(node, to, path)
	case reflect.Slice:
		d.list(node, to, path)
	case reflect.Map:
		d.strings(node, to, path)
	case reflect.Bool:
		scalar(d, node, to, path, parseBool)
	case reflect.Int:
		scalar(d, node, to, path, parseInt)
	case reflect.Float64:
		scalar(d, node, to, path, parseFloat)
	case reflect.String:
		scalar(d, node, to, path, func(text string) (string, error) { return text, nil })
	default:
		panic("BUG: no YAML form for " + to.Type().String())
	}
}

func (d *yamlDecoder) mapping(node *yaml.Node, to reflect.Value, path string) {
	if node.Kind != yaml.MappingNode {
		d.mistake(node, path, "must be a list of \"key: value\" lines")
		return
	}
	fields := map[string]reflect.Value{}
	keysOf(to, fields)
	seen := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		inner := key.Value
		if path != "" {
			inner = path + "." + key.Value
		}
		field, known := fields[key.Value]
		if key.Kind != yaml.ScalarNode || !known {
			d.unknown(key, path, fields)
			continue
		}
		if line, twice := seen[key.Value]; twice {
			d.mistake(key, inner, "given twice, first on line %d", line)
			continue
		}
		seen[key.Value] = key.Line
		d.value(value, field, inner)
	}
}

func (d *yamlDecoder) unknown(key *yaml.Node, path string, fields map[string]reflect.Value) {
	if len(d.mistakes) > maxWarnings {
		return
	}
	known := make([]string, 0, len(fields))
	for name := range fields {
		known = append(known, name)
	}
	slices.Sort(known)
	text := "unknown key " + quote(key.Value)
	if guess := nearest(key.Value, known); guess != "" {
		text += ", did you mean " + guess + "?"
	} else {
		text += ", known here are " + strings.Join(known, ", ")
	}
	d.mistake(key, path, "%s", text)
}

// keysOf collects the fields of a struct, those of inlined structs included, by
// their key.
func keysOf(value reflect.Value, into map[string]reflect.Value) {
	for i := range value.NumField() {
		switch tag := value.Type().Field(i).Tag.Get("yaml"); tag {
		case "-":
		case ",inline":
			keysOf(value.Field(i), into)
		default:
			into[tag] = value.Field(i)
		}
	}
}

// maxListLength is far above any sensible list and far below a memory problem.
const maxListLength = 1000

func (d *yamlDecoder) list(node *yaml.Node, to reflect.Value, path string) {
	if node.Kind != yaml.SequenceNode {
		d.mistake(node, path, "must be a list, with \"- \" before each entry or in [ ]")
		return
	}
	if len(node.Content) > maxListLength {
		d.mistake(node, path, "has %d entries, at most %d are allowed", len(node.Content), maxListLength)
		return
	}
	// A list in the file replaces the default list.
	entries := reflect.MakeSlice(to.Type(), len(node.Content), len(node.Content))
	for i, content := range node.Content {
		entry := entries.Index(i)
		if model, ok := entry.Addr().Interface().(*Model); ok {
			model.Run = d.defaults
		}
		d.value(content, entry, fmt.Sprintf("%s[%d]", path, i))
	}
	to.Set(entries)
}

// strings reads a mapping whose keys are free and whose values are text.
func (d *yamlDecoder) strings(node *yaml.Node, to reflect.Value, path string) {
	if node.Kind != yaml.MappingNode {
		d.mistake(node, path, "must be a list of \"key: value\" lines")
		return
	}
	if len(node.Content) > 2*maxListLength {
		d.mistake(node, path, "has %d keys, at most %d are allowed", len(node.Content)/2, maxListLength)
		return
	}
	entries := map[string]string{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		inner := path + "." + key.Value
		if _, twice := entries[key.Value]; twice || key.Kind != yaml.ScalarNode {
			d.mistake(key, inner, "given twice, or no plain word")
			continue
		}
		d.lines[inner] = value.Line
		if value.Kind != yaml.ScalarNode || value.Tag == "!!null" {
			d.mistake(value, inner, "must be a single value")
			continue
		}
		entries[key.Value] = value.Value
	}
	to.Set(reflect.ValueOf(entries))
}

func scalar[T any](d *yamlDecoder, node *yaml.Node, to reflect.Value, path string, parse func(string) (T, error)) {
	if node.Kind != yaml.ScalarNode {
		d.mistake(node, path, "must be a single value")
		return
	}
	value, err := parse(node.Value)
	if err != nil {
		d.mistake(node, path, "%v", err)
		return
	}
	to.Set(reflect.ValueOf(value).Convert(to.Type()))
}

func parseDuration(text string) (time.Duration, error) {
	value, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%s is not a duration: write a number with a unit, such as 10s or 500us", quote(text))
	}
	return value, nil
}

// parseMode reads octal digits with a leading zero, which tells them from a
// decimal number that YAML would make of them.
func parseMode(text string) (fs.FileMode, error) {
	digits := strings.TrimPrefix(text, "0o")
	bits, err := strconv.ParseUint(digits, 8, 32)
	if err != nil || !strings.HasPrefix(text, "0") || bits > 0o777 {
		return 0, fmt.Errorf("%s is not a file mode: write three octal digits after a zero, such as 0660", quote(text))
	}
	return fs.FileMode(bits), nil
}

func parseLevel(text string) (slog.Level, error) {
	switch text {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("%s is not a log level: use debug, info, warn or error", quote(text))
}

func parseBool(text string) (bool, error) {
	switch text {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fmt.Errorf("%s is neither true nor false", quote(text))
}

func parseFloat(text string) (float64, error) {
	value, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(value) {
		return 0, fmt.Errorf("%s is not a number", quote(text))
	}
	return value, nil
}

func parseInt(text string) (int, error) {
	value, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("%s is not a whole number", quote(text))
	}
	return value, nil
}
