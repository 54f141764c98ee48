package config

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// writeAndRead writes c, reads it again and requires it to be the same.
func writeAndRead(t *testing.T, c *Config) string {
	t.Helper()
	data, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := parse("c.yaml", data)
	if err != nil {
		t.Fatalf("what was written is not read: %v\n%s", err, data)
	}
	want := *c
	want.Legacy, want.Warnings = nil, nil
	if changes := Changes(&want, again); len(changes) > 0 {
		t.Fatalf("%v became something else in\n%s", changes, data)
	}
	return string(data)
}

func TestWrite(t *testing.T) {
	if text := writeAndRead(t, Default()); strings.Contains(text, ":") {
		t.Errorf("the defaults are written as %s", text)
	}
	c, err := Resolve(Flags{Config: write(t, "edge.json", fullLegacy), StateDir: "/state", AgentSocket: "/tmp/x.sock", SocketsDir: "/run/p"}, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	if text := writeAndRead(t, c); !strings.Contains(text, "paths: [/run/p/agent.sock, /tmp/x.sock]") || strings.Contains(text, "max_message") {
		t.Errorf("an Edge Manager configuration is written as\n%s", text)
	}
	example, err := os.ReadFile("example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"example": string(example),
		"words":   "trust: {names: [\"null\", \"~\", \"yes\", \"1\", \"a: b\", \"\", \"#\", \"*\"]}\nlog: {level: warn}\n",
		"numbers": "sockets: {agent: {mode: 0007}, control: {mode: 0600}}\nlimits: {max_message: 81MiB, max_in_flight: 1000000001B}\nshutdown: {grace: 1m40.5s}\naws: {bandwidth: 50Mbit/s}\n",
		"models":  "model_defaults: {instances: 3, pin: true}\nmodels: [{name: a, path: /a}, {name: b, path: /b, instances: 0, pin: false, capture: {rate: 0.25}}]\n",
		"empty":   "sockets: {lane: {paths: []}}\ntracing: {resource: [a=b], headers: [\"k=1\"]}\n",
	} {
		t.Run(name, func(t *testing.T) {
			c, _, err := parse("c.yaml", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			writeAndRead(t, c)
		})
	}
	// Each field has a form: a configuration in which everything is something else than by default is written too.
	all := *Default()
	changeAll(reflect.ValueOf(&all).Elem())
	if _, err := all.YAML(); err != nil {
		t.Error(err)
	}
}

// changeAll changes every field that has a key, lists to one entry.
func changeAll(value reflect.Value) {
	switch value.Kind() {
	case reflect.Struct:
		for i := range value.NumField() {
			if value.Type().Field(i).Tag.Get("yaml") != "-" {
				changeAll(value.Field(i))
			}
		}
	case reflect.Slice:
		value.Set(reflect.MakeSlice(value.Type(), 1, 1))
		changeAll(value.Index(0))
	case reflect.Map:
		value.Set(reflect.ValueOf(map[string]string{"a": "b"}))
	case reflect.String:
		value.SetString(value.String() + "x")
	case reflect.Bool:
		value.SetBool(!value.Bool())
	case reflect.Float64:
		value.SetFloat(value.Float() + 1)
	case reflect.Uint32: // a file's mode
		value.SetUint(value.Uint() ^ 1)
	default:
		value.SetInt(value.Int() + 1)
	}
}
