package config

import (
	"fmt"
	"math"
	"strings"

	"github.com/picket-ml/picket/internal/cloud"
)

// Destination is where captured records go; neither Bucket nor Directory: nowhere, and
// they wait in the spool.
type Destination struct {
	// Bucket is the name of a bucket of S3, or the ARN of an access point on an Outpost.
	Bucket string `yaml:"bucket"`
	// Account is the bucket's owner, 12 digits; others' buckets are refused. Empty for any.
	Account string `yaml:"account"`
	// Directory is an absolute path, for the same tree on a disk.
	Directory string `yaml:"directory"`
	// Prefix begins every key.
	Prefix string `yaml:"prefix"`
}

// Configured tells whether there is a destination.
func (d Destination) Configured() bool { return d.Bucket != "" || d.Directory != "" }

// Format is how captured records are written.
type Format struct {
	// Kinds are "edge", "endpoint" and "parquet"; Models say otherwise for some.
	Kinds  []string      `yaml:"kinds"`
	Models []ModelFormat `yaml:"models"`
	// Fleet and Device are who the records say that they are from. Empty Device is the
	// host's name.
	Fleet  string `yaml:"fleet"`
	Device string `yaml:"device"`
	// EmbedBytes is the largest tensor that a record of kind edge holds itself.
	EmbedBytes int `yaml:"embed_bytes"`
	// Rows is "csv" or "json", for kind endpoint.
	Rows string `yaml:"rows"`
	// Variant is the second folder of kind endpoint.
	Variant string `yaml:"variant"`
}

// ModelFormat is the formats of one model.
type ModelFormat struct {
	Model string   `yaml:"model"`
	Kinds []string `yaml:"kinds"`
}

// KindsOf are the formats of a model.
func (f Format) KindsOf(model string) []string {
	for _, m := range f.Models {
		if m.Model == model {
			return m.Kinds
		}
	}
	return f.Kinds
}

// Upload is how objects go to the destination.
type Upload struct {
	// Compression is "none", "gzip" or "zstd".
	Compression string `yaml:"compression"`
	// ObjectBytes is how much content an object has.
	ObjectBytes Size `yaml:"object_bytes"`
	// Parallel is how many objects go side by side.
	Parallel int `yaml:"parallel"`
	// Bandwidth is what uploads may use of the line, within what Config.AWS allows to all;
	// 0 for no limit of their own.
	Bandwidth cloud.Rate `yaml:"bandwidth"`
	// Windows are the times at which objects may go, as in a crontab, in Zone; none for
	// always.
	Windows []string `yaml:"windows"`
	Zone    string   `yaml:"zone"`
	// Verify asks the store for each object after it was stored.
	Verify bool `yaml:"verify"`
}

// Residency says what may leave the host, and where to.
type Residency struct {
	// Version is what the policy's author calls it.
	Version string `yaml:"version"`
	// Metrics lets model metrics leave.
	Metrics bool `yaml:"metrics"`
	// K is how many observations a bucket of a histogram needs to be published.
	K int `yaml:"k"`
	// Key is a file with the key of hashes, absolute.
	Key string `yaml:"key"`
	// Audit is the directory of the audit log, absolute; empty for "audit" in
	// Config.StateDir.
	Audit        string               `yaml:"audit"`
	Destinations []AllowedDestination `yaml:"destinations"`
	Models       []ModelResidency     `yaml:"models"`
}

// AllowedDestination is a place where records may go; what is empty may be anything.
type AllowedDestination struct {
	Bucket    string `yaml:"bucket"`
	Account   string `yaml:"account"`
	Region    string `yaml:"region"`
	Outpost   string `yaml:"outpost"`
	Directory string `yaml:"directory"`
}

// ModelResidency is what of a model's requests may leave.
type ModelResidency struct {
	// Model is its name, or "*" for those without a rule of their own.
	Model   string `yaml:"model"`
	Samples bool   `yaml:"samples"`
	// Columns name those of the first input, in order.
	Columns  []string           `yaml:"columns"`
	Features []FeatureResidency `yaml:"features"`
	// Otherwise is for inputs without a rule, Outputs for outputs without one, Auxiliary
	// and Truth for what clients captured and told: "allow" or "drop"; empty is drop.
	Otherwise string `yaml:"otherwise"`
	Outputs   string `yaml:"outputs"`
	Auxiliary string `yaml:"auxiliary"`
	Truth     string `yaml:"truth"`
	// IDs is "hash" or "allow"; empty is hash.
	IDs string `yaml:"ids"`
}

// FeatureResidency is what becomes of one feature.
type FeatureResidency struct {
	Tensor  string `yaml:"tensor"`
	Feature string `yaml:"feature"`
	// Action is "allow", "drop", "hash", "bucket" or "truncate".
	Action string    `yaml:"action"`
	Bounds []float64 `yaml:"bounds"`
	Digits int       `yaml:"digits"`
}

func defaultFormat() Format {
	return Format{Kinds: []string{"endpoint"}, EmbedBytes: maxEmbedLimit, Rows: "csv", Variant: "AllTraffic"}
}

func defaultUpload() Upload {
	return Upload{Compression: "gzip", ObjectBytes: 8 << 20, Parallel: 4, Zone: "UTC", Verify: true}
}

// checkLeaving looks at what concerns the way out of the host; what the policy says of
// features is for internal/capture/residency to judge. It looks at no file.
func (c Capture) checkLeaving(k *checker, state string) {
	d, r := c.Destination, c.Residency
	if d.Bucket != "" && d.Directory != "" {
		k.add("capture.destination", "has both a bucket and a directory: records go to one")
	}
	if d.Account != "" && d.Bucket == "" {
		k.add("capture.destination.account", "is for buckets")
	}
	if d.Directory != "" {
		k.absolute("capture.destination.directory", d.Directory)
	}
	for element := range strings.SplitSeq(d.Prefix, "/") {
		if d.Prefix != "" && (element == "" || element == "." || element == ".." || strings.ContainsAny(element, "\x00\r\n\\")) {
			k.add("capture.destination.prefix", "%s must be folders with / between them, such as bank/frankfurt", quote(d.Prefix))
			break
		}
	}
	if d.Configured() && r.Audit == "" && state == "" {
		k.add("capture.residency.audit", "is needed, or state_dir, for records to leave: there must be a place for the audit log")
	}
	for _, f := range []struct{ path, value string }{{"capture.residency.audit", r.Audit}, {"capture.residency.key", r.Key}} {
		if f.value != "" {
			k.absolute(f.path, f.value)
		}
	}
	k.between("capture.residency.k", r.K, 0, 1_000_000)
	c.Format.check(k)
	c.Upload.check(k)
}

func (f Format) check(k *checker) {
	kinds := func(path string, all []string) {
		seen := map[string]bool{}
		if len(all) == 0 {
			k.add(path, "is empty: name edge, endpoint or parquet")
		}
		for i, kind := range all {
			switch kind {
			case "edge", "endpoint", "parquet":
			default:
				k.add(fmt.Sprintf("%s[%d]", path, i), "%s is none of edge, endpoint and parquet", quote(kind))
			}
			if seen[kind] {
				k.add(fmt.Sprintf("%s[%d]", path, i), "%s is listed twice", quote(kind))
			}
			seen[kind] = true
		}
	}
	kinds("capture.format.kinds", f.Kinds)
	seen := map[string]bool{}
	for i, m := range f.Models {
		path := fmt.Sprintf("capture.format.models[%d]", i)
		if m.Model == "" || seen[m.Model] {
			k.add(path+".model", "%s is empty, or has an entry already", quote(m.Model))
		}
		seen[m.Model] = true
		kinds(path+".kinds", m.Kinds)
	}
	for _, text := range []struct{ path, value string }{{"capture.format.fleet", f.Fleet}, {"capture.format.device", f.Device}, {"capture.format.variant", f.Variant}} {
		if len(text.value) > 1023 || strings.ContainsAny(text.value, "\x00\r\n/") {
			k.add(text.path, "%s must be one line without /", quote(text.value))
		}
	}
	k.between("capture.format.embed_bytes", f.EmbedBytes, 0, math.MaxInt32)
	if f.Rows != "csv" && f.Rows != "json" {
		k.add("capture.format.rows", "%s is neither csv nor json", quote(f.Rows))
	}
}

func (u Upload) check(k *checker) {
	switch u.Compression {
	case "none", "gzip", "zstd":
	default:
		k.add("capture.upload.compression", "%s is none of none, gzip and zstd", quote(u.Compression))
	}
	if u.ObjectBytes < 1<<10 || u.ObjectBytes > 64<<20 {
		k.add("capture.upload.object_bytes", "%v is outside 1KiB to 64MiB", u.ObjectBytes)
	}
	k.between("capture.upload.parallel", u.Parallel, 1, 64)
	cloud.Options{Bandwidth: u.Bandwidth}.Check(func(key, sentence string) { k.add("capture.upload."+key, "%s", sentence) })
}
