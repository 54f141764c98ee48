package config

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// captureAsLegacy makes of what an Edge Manager file says of captures what Config.Capture
// says, once the flags are known. The old agent sent everything that was captured
// explicitly, to the one place that its file names: whoever wrote the file has said so,
// and that is the policy. What is not complete is left out, with a warning: a host that
// sends nothing still answers.
func (c *Config) captureAsLegacy() {
	l := c.Legacy
	if l == nil || c.Capture.Enabled {
		return
	}
	old := l.Capture
	d, ok := l.destination(c.warn)
	if !ok {
		return
	}
	k := &c.Capture
	state := c.StateDir
	if state == "" {
		if d.Directory == "" {
			c.warn("captured data cannot be kept until it has left: give --state, a directory for it")
			return
		}
		state = filepath.Join(d.Directory, ".picket")
		k.Dir, k.Residency.Audit = filepath.Join(state, "capture"), filepath.Join(state, "audit")
	}
	k.Enabled, k.Destination = true, d
	k.SegmentAge = max(min(old.PushPeriod, 24*time.Hour), 100*time.Millisecond)
	k.Format = Format{
		Kinds: []string{"edge"}, Fleet: oneElement(l.FleetName), Device: oneElement(l.DeviceName),
		EmbedBytes: old.EmbedLimit, Rows: k.Format.Rows, Variant: k.Format.Variant,
	}
	k.Upload.Compression = "none"
	k.Residency.Version = "as the Edge Manager agent"
	k.Residency.Destinations = []AllowedDestination{{Bucket: d.Bucket, Region: l.Region, Directory: d.Directory}}
	k.Residency.Models = []ModelResidency{{
		Model: "*", Samples: true, Otherwise: "allow", Outputs: "allow", Auxiliary: "allow", Truth: "allow", IDs: "allow",
	}}
	if d.Bucket != "" {
		k.Residency.Destinations[0].Directory = ""
	} else {
		k.Residency.Destinations[0].Region = ""
	}
}

// destination is where the file sends captured data; ok is false for nowhere.
func (l *Legacy) destination(warn func(string, ...any)) (d Destination, ok bool) {
	d.Prefix = strings.Trim(l.Capture.FolderPrefix, "/")
	if l.Capture.Destination == "Cloud" || l.Capture.PeriodicUpload {
		if l.Capture.Destination == "Disk" {
			warn("captured data is sent to S3 as it is sealed, as periodic_upload asks for, and no copy stays on disk")
		}
		if d.Bucket = l.Provider.Bucket; d.Bucket == "" || l.Region == "" || l.Provider.Name != "Aws" {
			return d, false // crossCheck has said what is missing
		}
		return d, true
	}
	if path := l.Capture.DiskPath; path != "" && !filepath.IsAbs(path) {
		warn("%s is %s, which is no absolute path: captured data is not kept", keyDiskPath, quote(path))
		return d, false
	}
	if l.Capture.DiskPath == "" {
		return d, false
	}
	d.Directory = filepath.Clean(l.Capture.DiskPath)
	return d, true
}

func (c *Config) warn(format string, args ...any) {
	c.Warnings = append(c.Warnings, fmt.Sprintf(format, args...))
}

// oneElement is a name as it can be in a key.
func oneElement(name string) string { return strings.ReplaceAll(name, "/", "_") }
