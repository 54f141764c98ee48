package config

import (
	"log/slog"
	"reflect"
	"slices"
	"testing"
	"time"
)

func TestChanges(t *testing.T) {
	for _, test := range []struct {
		change func(*Config)
		want   []string
	}{
		{func(*Config) {}, nil},
		{func(c *Config) { c.ModelRoots = []string{} }, nil},
		{func(c *Config) { c.Log.Level = slog.LevelDebug }, []string{"log.level"}},
		{func(c *Config) { c.Sockets.OIP.Paths = nil }, []string{"sockets.oip.paths"}},
		{func(c *Config) { c.Sockets.OIP.Mode = 0o600; c.Unsigned = true }, []string{"sockets.oip.mode", "unsigned"}},
		{func(c *Config) { c.Models = []Model{{Name: "a", Path: "/a"}} }, []string{"models"}},
		{func(c *Config) { c.ModelDefaults.Timeout = time.Second }, []string{"model_defaults.timeout"}},
		{func(c *Config) { c.Warnings = []string{"w"}; c.Legacy = defaultLegacy() }, nil},
	} {
		changed := Default()
		test.change(changed)
		if got := Changes(Default(), changed); !slices.Equal(got, test.want) {
			t.Errorf("got %v, want %v", got, test.want)
		}
		if got := Changes(changed, Default()); !slices.Equal(got, test.want) {
			t.Errorf("the other way round: got %v, want %v", got, test.want)
		}
	}
}

// Every key that a file can have is seen when it changes.
func TestChangesOfEveryKey(t *testing.T) {
	n := 0
	eachLeaf(reflect.ValueOf(Default()).Elem(), func(reflect.Value) { n++ })
	for i := range n {
		changed, at := Default(), 0
		eachLeaf(reflect.ValueOf(changed).Elem(), func(v reflect.Value) {
			if at == i {
				other(t, v)
			}
			at++
		})
		if got := Changes(Default(), changed); len(got) != 1 {
			t.Errorf("the change of value %d of %d is told as %v", i, n, got)
		}
	}
	if n < 30 {
		t.Errorf("only %d values were tried", n)
	}
}

func eachLeaf(v reflect.Value, do func(reflect.Value)) {
	for i := range v.NumField() {
		switch f := v.Field(i); {
		case v.Type().Field(i).Tag.Get("yaml") == "-":
		case f.Kind() == reflect.Struct:
			eachLeaf(f, do)
		default:
			do(f)
		}
	}
}

// other gives v a value that it does not have by default.
func other(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 3, 3))
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.Float64:
		v.SetFloat(v.Float() + 1)
	case reflect.Uint32:
		v.SetUint(v.Uint() + 1)
	default:
		t.Fatalf("no other value is known for a %v", v.Type())
	}
}
