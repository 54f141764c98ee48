package config

import (
	"strings"
	"testing"
)

// What CloudWatch would refuse at every request is refused when the configuration is read.
func TestNamesForCloudWatch(t *testing.T) {
	for name, wrong := range map[string]bool{
		"Picket": false, "a/b.c_d#e:f-g": false, strings.Repeat("n", 255): false,
		strings.Repeat("n", 256): true, "": true, "AWS/EC2": true, ":first": true, "a b": true, "a\n": true, "é": true,
	} {
		var k checker
		CloudWatch{Namespace: name, Fleet: "pos", Device: "till-1"}.check(&k)
		if said := strings.Contains(errorsOf(k), "cloudwatch.namespace"); said != wrong {
			t.Errorf("namespace %q: refused %v", name, said)
		}
	}
	for name, wrong := range map[string]bool{
		"pos": false, "the shop": false, strings.Repeat("d", 255): false, strings.Repeat("d", 256): true, " x": true, "x ": true, "a\tb": true, "é": true,
	} {
		var k checker
		CloudWatch{Namespace: "Picket", Fleet: name, Device: name}.check(&k)
		for _, key := range []string{"cloudwatch.fleet", "cloudwatch.device"} {
			if said := strings.Contains(errorsOf(k), key); said != wrong {
				t.Errorf("%s %q: refused %v", key, name, said)
			}
		}
	}
}

// errorsOf are the keys that k has found something wrong with.
func errorsOf(k checker) string {
	var keys []string
	for _, p := range k.problems {
		keys = append(keys, p.path)
	}
	return strings.Join(keys, " ")
}
