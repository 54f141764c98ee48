package config

import (
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/picket-ml/picket/internal/cloud"
)

// Fleet says which fleet the daemon is a device of.
type Fleet struct {
	// Place is where the fleet's documents and packages lie, s3://bucket/prefix or
	// file:///folder; empty: the daemon is of no fleet.
	Place string `yaml:"place"`
	// Root is the fleet's root document, absolute. Empty: what the server says is
	// done, signed or not.
	Root string `yaml:"root"`
	// Name is the fleet's, Group that of the device's group and Device its own.
	Name   string `yaml:"name"`
	Group  string `yaml:"group"`
	Device string `yaml:"device"`
	// Interval is how often the device looks, more or less.
	Interval time.Duration `yaml:"interval"`
	// Server is the URL that speaks the old API of devices; empty for none.
	// Credentials is a file with the access key and the secret for it, CA one of the
	// authorities that may have signed its certificate; absolute.
	Server      string `yaml:"server"`
	Credentials string `yaml:"credentials"`
	CA          string `yaml:"ca"`
}

// Configured tells whether the daemon is of a fleet.
func (f Fleet) Configured() bool { return f.Place != "" }

var fleetName = regexp.MustCompile(`^[a-zA-Z0-9](-*[a-zA-Z0-9])*$`)

// check looks at no file.
func (f Fleet) check(k *checker, stateDir string) {
	if !f.Configured() {
		if f.Name != "" || f.Device != "" || f.Server != "" || f.Root != "" {
			k.add("fleet.place", "is missing, without which the rest of fleet has no effect")
		}
		return
	}
	if folder, local := strings.CutPrefix(f.Place, "file://"); local {
		if !filepath.IsAbs(folder) {
			k.add("fleet.place", "%s must be file:// and an absolute path", quote(f.Place))
		}
	} else if _, _, err := cloud.ParseS3(f.Place); err != nil {
		k.add("fleet.place", "%v", err)
	}
	for _, n := range []struct{ path, value string }{{"fleet.name", f.Name}, {"fleet.group", f.Group}, {"fleet.device", f.Device}} {
		if len(n.value) > 63 || !fleetName.MatchString(n.value) {
			k.add(n.path, "%s is no name: 1 to 63 letters, digits and inner hyphens", quote(n.value))
		}
	}
	for _, file := range []struct{ path, value string }{{"fleet.root", f.Root}, {"fleet.credentials", f.Credentials}, {"fleet.ca", f.CA}} {
		if file.value != "" {
			k.absolute(file.path, file.value)
		}
	}
	if f.Root == "" && f.Server == "" {
		k.add("fleet.root", "is missing: the fleet's root document says whom to believe")
	}
	if u, err := url.Parse(f.Server); f.Server != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil) {
		k.add("fleet.server", "must begin with https:// or http:// and name a host, such as https://fleet.example:8443")
	}
	if f.Server != "" && f.Credentials == "" {
		k.add("fleet.credentials", "is missing: the server knows devices by their keys")
	}
	if f.Interval < time.Second || f.Interval > 24*time.Hour {
		k.add("fleet.interval", "%v is outside 1s to 24h0m0s", f.Interval)
	}
	if stateDir == "" {
		k.add("fleet", "needs state_dir, in which what the device serves is kept")
	}
}
