package packaging

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// The forms are those of the Edge Manager packaging job.
const (
	maxNameLength    = 63
	maxVersionLength = 30
)

var (
	namePattern    = regexp.MustCompile(`^[a-zA-Z0-9](-*[a-zA-Z0-9])*$`)
	versionPattern = regexp.MustCompile(`^[a-zA-Z0-9 _.]+$`)
)

// CheckName tells whether a package may be called that.
func CheckName(name string) error {
	if len(name) > maxNameLength || !namePattern.MatchString(name) {
		return fmt.Errorf("%q is not the name of a package, which has 1 to %d letters, digits and inner hyphens", name, maxNameLength)
	}
	return nil
}

// CheckVersion tells whether a package may have that version.
func CheckVersion(version string) error {
	if len(version) > maxVersionLength || !versionPattern.MatchString(version) || strings.TrimSpace(version) != version {
		return fmt.Errorf("%q is not the version of a package, which has 1 to %d letters, digits, inner blanks, underscores and dots", version, maxVersionLength)
	}
	return nil
}

// FileName is what the archive of a package is called.
func FileName(name, version string) string { return name + "-" + version + fileSuffix }

const fileSuffix = ".tar.gz"

// SplitFileName is the inverse of FileName. A version has no hyphen, so the last one parts the two.
func SplitFileName(file string) (name, version string, ok bool) {
	stem, ok := strings.CutSuffix(file, fileSuffix)
	if !ok {
		return "", "", false
	}
	at := strings.LastIndexByte(stem, '-')
	if at < 0 {
		return "", "", false
	}
	name, version = stem[:at], stem[at+1:]
	return name, version, errors.Join(CheckName(name), CheckVersion(version)) == nil
}

// CompareVersions tells which of two versions is higher: negative where a is lower than b. A version is runs of digits
// and runs of letters with anything between them; they are compared from the left, digits by value, letters by their
// bytes. Digits are higher than letters, and a version that goes on is higher than one that ends: 1.0rc < 1.0.1, 1 < 1.0 < 1.0.1,
// 9 < 10. Two versions that are written differently may compare as equal: 1.0, 1_0, 1.00.
func CompareVersions(a, b string) int {
	for {
		x, y := "", ""
		x, a = nextRun(a)
		y, b = nextRun(b)
		if x == "" || y == "" {
			return cmp.Compare(len(x), len(y))
		}
		if c := compareRuns(x, y); c != 0 {
			return c
		}
	}
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// nextRun cuts the first run of digits or letters off; it is empty at the end.
func nextRun(s string) (run, rest string) {
	for s != "" && !isDigit(s[0]) && !isLetter(s[0]) {
		s = s[1:]
	}
	same := isLetter
	if s != "" && isDigit(s[0]) {
		same = isDigit
	}
	n := 0
	for n < len(s) && same(s[n]) {
		n++
	}
	return s[:n], s[n:]
}

func compareRuns(x, y string) int {
	switch digits := isDigit(x[0]); {
	case digits != isDigit(y[0]):
		if digits {
			return 1
		}
		return -1
	case digits:
		x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
		if c := cmp.Compare(len(x), len(y)); c != 0 {
			return c
		}
	}
	return strings.Compare(x, y)
}
