//go:build cgo && linux

package forest

/*
#include "forest.h"
*/
import "C"

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/picket-ml/picket/internal/ensemble"
)

// Names in the C of an artifact, beside those of forest.h.
const (
	tablesFile  = "tables.bin"
	tablesLabel = "picket_tables"
)

// maxScratch is how many bytes of working memory may lie on the caller's stack, which may be a small one. More lie in
// memory of the calling thread.
const maxScratch = 32 << 10

// Sources gives files of C, and what they include, that define
//
//	void picket_margins(const void *row, T *margins);
//
// for a library of an architecture as Go names it. row is e.NumFeature values of float, every NaN of which is missing; T is
// float, or double where [ensemble.Ensemble.Wide]; margins are e.Groups sums, bit for bit those of the backend. The function
// is reentrant. The library chooses among the kernels when it is loaded, by the instruction sets that the processor has and
// the operating system lets it use, so that all of it but the kernels is to be compiled for the least processor it is for.
func Sources(e *ensemble.Ensemble, arch string) (map[string][]byte, error) {
	return sourcesFor(e, arch, families[:])
}

// sourcesFor is Sources with a choice of families, the best first.
func sourcesFor(e *ensemble.Ensemble, arch string, families []family) (map[string][]byte, error) {
	if e.NumFeature < 1 || e.Groups < 1 {
		return nil, fmt.Errorf("the model takes %d features and gives %d values; both must be at least one", e.NumFeature, e.Groups)
	}
	p := newPlan(e)
	files, err := commonFiles()
	if err != nil {
		return nil, err
	}
	im := image{tables: map[string]int{}, forests: map[string]int{}}
	plain, err := im.add(p, plainFamily)
	if err != nil {
		return nil, err
	}
	most := plain.scratch
	var choices []string // C, the best first
	for _, f := range families {
		name, source, needs, err := f.kernelsOf(arch)
		if err != nil {
			return nil, err
		}
		if name == "" {
			continue
		}
		forest, err := im.add(p, f)
		if err != nil {
			return nil, err
		}
		if !forest.rows {
			continue
		}
		most = max(most, forest.scratch)
		files[name] = append([]byte(forest.known), source...)
		choices = append(choices, choose(needs, fmt.Sprintf("picket_row_%s, forest = &forest%d;", f.code, forest.number)))
	}
	files[tablesFile] = im.data
	files["model.c"] = im.model(p.wide, most, plain.number, choices)
	return files, nil
}

// choose is the C that settles on a kernel if the processor has all that it needs.
func choose(needs []string, settle string) string {
	if len(needs) == 0 {
		return "\tkernel = " + settle + "\n\treturn;\n"
	}
	for i, n := range needs {
		needs[i] = `__builtin_cpu_supports("` + n + `")`
	}
	return "\tif (" + strings.Join(needs, " && ") + ") {\n\t\tkernel = " + settle + "\n\t\treturn;\n\t}\n"
}

// image collects the tables of a model, those that several families share but once.
type image struct {
	data    []byte
	tables  map[string]int // where in data, by content
	forests map[string]int // numbers of the picket_forest structures, by their initialisers
}

// forest is a model laid out for a family.
type forest struct {
	number  int    // of its picket_forest in the C
	rows    bool   // it has tables for the row kernel
	known   string // C that defines PICKET_KNOWN for it; see forest.h
	scratch int    // bytes of working memory that a call takes
}

// add lays p out for the row kernel of a family; where it has no tables for that, it adds nothing. Whatever fields a picket_forest has, they are copied: numbers as they are,
// and of pointers what they point to.
func (im *image) add(p *plan, f family) (forest, error) {
	g, rows, _, err := layOut(p, f, false, false)
	if err != nil {
		return forest{}, err
	}
	defer g.Close()
	if f.number != plainFamily.number && rows.registers == 0 {
		return forest{}, nil
	}
	memory := g.memory.Bytes()
	fields, err := fieldsOf(g.forest, len(memory))
	if err != nil {
		return forest{}, err
	}
	ends := []int{len(memory)} // a table goes to the next one's start
	for _, v := range fields {
		if v.pointer {
			ends = append(ends, v.number)
		}
	}
	slices.Sort(ends)
	var initialiser, known strings.Builder
	known.WriteString("#define PICKET_KNOWN(f, field) KNOWN_##field\n")
	for _, v := range fields {
		switch {
		case !v.pointer:
			fmt.Fprintf(&initialiser, "\t.%s = %du,\n", v.name, v.number)
			fmt.Fprintf(&known, "#define KNOWN_%s %du\n", v.name, v.number)
		case v.number != 0: // where the structure itself lies is no table
			end := ends[min(len(ends)-1, upperBound(ends, v.number))]
			fmt.Fprintf(&initialiser, "\t.%s = (const void *)(%s + %d),\n", v.name, tablesLabel, im.table(memory[v.number:end]))
		}
	}
	number, there := im.forests[initialiser.String()]
	if !there {
		number = len(im.forests)
		im.forests[initialiser.String()] = number
	}
	return forest{number: number, rows: rows.registers != 0, known: known.String(), scratch: g.scratch}, nil
}

// upperBound is the index of the first of the ascending numbers that is above n.
func upperBound(numbers []int, n int) int {
	i, _ := slices.BinarySearch(numbers, n+1)
	return i
}

// table puts a table into the image unless it is there, and gives where it starts.
func (im *image) table(content []byte) int {
	at, known := im.tables[string(content)]
	if !known {
		at = len(im.data)
		im.tables[string(content)] = at
		im.data = append(im.data, content...)
		im.data = append(im.data, make([]byte, -len(im.data)&63)...)
	}
	return at
}

// field is a field of a picket_forest: a number, or where in the model's memory a pointer points.
type field struct {
	name    string
	pointer bool
	number  int
}

// fieldsOf reads the fields of a structure at the start of size bytes of memory. One of a kind that it does not know is an
// error, so that none can be forgotten.
func fieldsOf(forest *C.picket_forest, size int) ([]field, error) {
	var fields []field
	v := reflect.ValueOf(forest).Elem()
	for i := range v.NumField() {
		name, value := v.Type().Field(i).Name, v.Field(i)
		switch value.Kind() {
		case reflect.Uint32:
			fields = append(fields, field{name, false, int(value.Uint())})
		case reflect.Pointer:
			at := int(value.Pointer()) - int(uintptr(unsafe.Pointer(forest)))
			if at < 0 || at > size || at%64 != 0 {
				return nil, fmt.Errorf("laying the model out: %s of picket_forest points to no table of the model", name)
			}
			fields = append(fields, field{name, true, at})
		default:
			if name != "_" { // what C leaves free between fields
				return nil, fmt.Errorf("laying the model out: %s of picket_forest is neither a number nor a pointer", name)
			}
		}
	}
	return fields, nil
}

// model is the C that holds the tables and calls the kernels.
func (im *image) model(wide bool, scratch, plain int, choices []string) []byte {
	b := &bytes.Buffer{}
	b.WriteString("#include \"forest.h\"\n\n")
	// In a section of its own that is never written: processes share it, and pages that no kernel reads are never loaded.
	fmt.Fprintf(b, "__asm__(\".pushsection .rodata.%[1]s,\\\"a\\\",%%progbits\\n.balign 64\\n.globl %[1]s\\n.hidden %[1]s\\n%[1]s:\\n.incbin \\\"%[2]s\\\"\\n.popsection\");\n",
		tablesLabel, tablesFile)
	fmt.Fprintf(b, "extern const uint8_t %s[] __attribute__((visibility(\"hidden\")));\n", tablesLabel)
	// The dynamic linker fills the addresses in, before any code of the library runs.
	initialisers := slices.SortedFunc(maps.Keys(im.forests), func(x, y string) int { return im.forests[x] - im.forests[y] })
	for i, text := range initialisers {
		fmt.Fprintf(b, "static const picket_forest forest%d = {\n%s};\n", i, text)
	}
	fmt.Fprintf(b, "static picket_kernel *kernel = picket_walk;\nstatic const picket_forest *forest = &forest%d;\n", plain)
	if len(choices) > 0 {
		b.WriteString("\n// When the library is loaded, before anyone can call it.\n" +
			"static __attribute__((constructor)) void choose(void) {\n" +
			"#if defined(__x86_64__)\n\t__builtin_cpu_init();\n#endif\n" + strings.Join(choices, "") + "}\n")
	}
	sum, storage := "float", ""
	if wide {
		sum = "double"
	}
	if scratch > maxScratch {
		storage = "static _Thread_local "
	}
	b.WriteString("\nvoid picket_margins(const void *row, " + sum + " *margins);\nvoid picket_margins(const void *row, " + sum + " *margins) {\n" +
		"\t" + storage + "uint8_t scratch[" + strconv.Itoa(scratch) + "] __attribute__((aligned(64)));\n" +
		"\tkernel(forest, row, 1, margins, scratch);\n}\n")
	return b.Bytes()
}
