package assemble

import (
	"debug/elf"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/picket-ml/picket/backends/neo"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/dl"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/packaging"
)

// Needs reads from an artifact folder what a host must have to run what is in it: from the headers of its library and
// from its metadata. A folder of just a model file asks for nothing.
func Needs(dir string) (r packaging.Requires, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return r, fileError(err)
	}
	a, err := engine.NewArtifact(dir, root)
	if err != nil {
		_ = root.Close() // it was only read
		return r, err
	}
	defer a.Close()
	if len(a.Files) == 0 {
		return r, fmt.Errorf("%w: it is empty%s", engine.ErrArtifact, a.LeftOutText())
	}
	layout, err := neo.ReadLayout(a.Files)
	if err != nil || layout.Library == "" {
		return r, err
	}
	meta, err := neo.ReadMetadata(a, layout)
	if err != nil {
		return r, err
	}
	f, err := a.Open(layout.Library)
	if err != nil {
		return r, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return r, fileError(err)
	}
	object, err := dl.Inspect(f, info.Size())
	if err != nil {
		return r, fmt.Errorf("%s: %w", layout.Library, err)
	}
	switch object.Machine {
	case elf.EM_X86_64:
		r.Arch, r.Level = "amd64", string(highestLevel(object.X86Level, meta.CPULevel))
	case elf.EM_AARCH64:
		r.Arch = "arm64"
	default:
		return r, fmt.Errorf("%s is built for %v, which no host of Picket is", layout.Library, object.Machine)
	}
	r.Glibc = object.Glibc()
	if meta.DeviceType == "gpu" {
		r.GPU = &packaging.GPU{}
	}
	return r, nil
}

// highestLevel is the higher of what the library notes, as a number, and what the metadata says.
func highestLevel(noted int, said hw.Level) hw.Level {
	levels := []hw.Level{hw.X86V1, hw.X86V2, hw.X86V3, hw.X86V4}
	level := levels[min(max(noted, 1), len(levels))-1]
	if said.Runs(level) {
		return said
	}
	return level
}

// VariantName is what a variant is called that nobody has given a name.
func VariantName(r packaging.Requires) string {
	name := "any"
	switch {
	case r.Level == string(hw.X86V1):
		name = "x86-64"
	case r.Level != "":
		name = r.Level
	case r.Arch == "arm64":
		name = string(hw.AArch64)
	}
	if r.GPU != nil {
		name += "-gpu"
	}
	return name
}

// AddNeeds adds what the command line says of a variant: x86-64-v4, avx512vbmi, glibc>=2.28, gpu, compute-capability>=7.5.
func AddNeeds(r *packaging.Requires, items string) error {
	for item := range strings.SplitSeq(items, ",") {
		item = strings.TrimSpace(item)
		what, least, versioned := strings.Cut(item, ">=")
		switch {
		case what == "glibc" && versioned:
			r.Glibc = least
		case what == "compute-capability" && versioned:
			r.GPU = &packaging.GPU{ComputeCapability: least}
		case item == "gpu":
			if r.GPU == nil {
				r.GPU = &packaging.GPU{}
			}
		case strings.HasPrefix(item, "x86-64"):
			if _, err := hw.ParseMask(item, "amd64"); err != nil {
				return fmt.Errorf("%q is no level of x86-64", item)
			}
			if item == "x86-64" {
				item = string(hw.X86V1)
			}
			r.Arch, r.Level = "amd64", item
		default:
			if _, err := hw.ParseMask(item, runtime.GOARCH); err != nil || item == "" || item == string(hw.AArch64) {
				return fmt.Errorf("%q is neither a level, a processor feature (picket info lists them), glibc>=VERSION, gpu nor compute-capability>=VERSION", item)
			}
			if !slices.Contains(r.Features, item) {
				r.Features = append(r.Features, item)
			}
		}
	}
	slices.Sort(r.Features)
	return nil
}
