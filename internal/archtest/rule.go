package archtest

import (
	"path"
	"strings"
)

// rule is one line of the table: what the packages that match pkg may import from this module.
//
// A pattern is the path of a package below the module, where the last element may be "*" (exactly one more element) or
// "..." (the package itself and everything below). The empty pattern is the module's root.
type rule struct {
	pkg     string
	imports []string // what its ordinary files may import; a package may always import itself (for external tests)
	tests   []string // what its _test.go files may import besides
	native  bool     // may say import "C"
	unsafe  bool     // may import unsafe
	support bool     // a package for tests: imported only by tests, by other support packages and by bench
}

// matches reports whether the package at the module-relative path pkg falls under pattern.
func matches(pattern, pkg string) bool {
	if base, ok := strings.CutSuffix(pattern, "..."); ok {
		base = strings.TrimSuffix(base, "/")
		return base == "" || pkg == base || strings.HasPrefix(pkg, base+"/")
	}
	ok, err := path.Match(pattern, pkg)
	return err == nil && ok
}

func matchesAny(patterns []string, pkg string) bool {
	for _, p := range patterns {
		if matches(p, pkg) {
			return true
		}
	}
	return false
}

// ruleFor returns the first line of the table that speaks about pkg, so special lines stand above general ones.
func ruleFor(rules []rule, pkg string) (rule, bool) {
	for _, r := range rules {
		if matches(r.pkg, pkg) {
			return r, true
		}
	}
	return rule{}, false
}
