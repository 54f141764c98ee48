package flame

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/pprof/profile"
)

// text is what perf 6.1 prints: a kernel of C called from Go, an idle processor, a function of C++, and what it cannot name.
const text = `picketd     4711   10101010 
	         77a1c0 forest_avx2 (/usr/bin/picketd)
	         4810c4 runtime.asmcgocall.abi0 (/usr/bin/picketd)
	         77a000 main.(*server).predict (/usr/bin/picketd)

swapper     0   10101010 
	ffffffff821f236b pv_native_safe_halt ([kernel.kallsyms])

mlserver worker 12   10101010 
	            e151 xgboost::tree::Predict(int, float const*) (/opt/lib xgboost.so)
	    7fff57ac4c70 [unknown] ([unknown])

picketd     4711   10101010 
	         77a1c0 forest_avx2 (/usr/bin/picketd)
	         4810c4 runtime.asmcgocall.abi0 (/usr/bin/picketd)
	         77a000 main.(*server).predict (/usr/bin/picketd)
`

func TestRead(t *testing.T) {
	t.Parallel()
	p, err := Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.CheckValid(); err != nil {
		t.Fatal(err)
	}
	var written bytes.Buffer
	if err := p.Write(&written); err != nil {
		t.Fatal(err)
	}
	if p, err = profile.Parse(&written); err != nil {
		t.Fatal(err)
	}
	var stacks []string
	for _, s := range p.Sample {
		var names []string
		for _, l := range s.Location {
			names = append(names, l.Line[0].Function.Name)
		}
		stacks = append(stacks, strings.Join(names, " < "))
	}
	if len(stacks) != 2 || stacks[0] != "forest_avx2 < runtime.asmcgocall.abi0 < main.(*server).predict < picketd" ||
		stacks[1] != "xgboost::tree::Predict(int, float const*) < in [unknown] < mlserver worker" {
		t.Fatalf("the stacks are %q", stacks)
	}
	if v := p.Sample[0].Value; v[0] != 2 || v[1] != 20202020 {
		t.Errorf("a stack that was seen twice has %v", v)
	}
	if m := p.Sample[1].Location[0].Mapping; m == nil || m.File != "/opt/lib xgboost.so" {
		t.Errorf("a function of a library is in %+v", m)
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"picketd 10101010\n":                              "beginning of a sample",
		"picketd x 10101010\n":                            "beginning of a sample",
		"picketd 1 -5\n":                                  "beginning of a sample",
		"picketd 1 5\n\tabc\n":                            "line 2",
		"p 1 5\n" + strings.Repeat("\t1 f (o)\n", 2000):   "more than 1024 frames",
		"p 1 5\n\t1 " + strings.Repeat("f", 1<<17) + "\n": "too long",
	} {
		if _, err := Read(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q gives %v, want an error with %q", text, err, want)
		}
	}
}

// FuzzRead makes sound profiles of whatever is read.
func FuzzRead(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Read(strings.NewReader(text))
		if err != nil {
			return
		}
		if err := p.CheckValid(); err != nil {
			t.Error(err)
		}
	})
}
