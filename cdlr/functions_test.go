package cdlr

import (
	"regexp"
	"testing"
)

func TestFunctionTable(t *testing.T) {
	version := regexp.MustCompile(`^1\.(\d|10)(\.1)?$`)
	seen := make(map[string]bool)
	for _, f := range functions {
		if seen[f.name] {
			t.Errorf("%s stands twice in the table", f.name)
		}
		seen[f.name] = true
		if !version.MatchString(f.since) {
			t.Errorf("%s: no version of DLR is called %q", f.name, f.since)
		}
		if f.essential && (f.optional || f.since != "1.0") {
			t.Errorf("%s is essential, but not in every version", f.name)
		}
	}
}

func TestErrorTexts(t *testing.T) {
	for want, err := range map[string]error{
		"a.so has no F: it needs DLR 1.8 or later":                      &MissingFunctionError{Library: "a.so", Function: "F", Since: "1.8"},
		"a.so has no F: it exists since DLR 1.2, in builds made for it": &MissingFunctionError{Library: "a.so", Function: "F", Since: "1.2", Optional: true},
		"F: too many rows": &Error{Function: "F", Message: "too many rows", Detail: "too many rows\nStack trace"},
		"F: libdlr gives no reason here; it writes one to standard error": &Error{Function: "F"},
	} {
		if got := err.Error(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
