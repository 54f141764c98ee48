package hw

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The table's two columns. Values are wrapped so that a terminal of 80
// columns does not break them.
const (
	labelWidth = 14
	valueWidth = 64
)

// table collects lines; the first section's title comes without a blank line.
type table struct{ strings.Builder }

func (t *table) section(title string) {
	if t.Len() > 0 {
		t.WriteByte('\n')
	}
	t.WriteString(title)
	t.WriteByte('\n')
}

// row writes a label and a value, wrapped at blanks. A row without value is
// left out.
func (t *table) row(label, value string) {
	line, lineWidth := "", 0
	flush := func() {
		fmt.Fprintf(t, "  %-*s%s\n", labelWidth, label, line)
		label, line, lineWidth = "", "", 0
	}
	for word := range strings.FieldsSeq(printable(value)) {
		width := utf8.RuneCountInString(word)
		if lineWidth > 0 && lineWidth+1+width > valueWidth {
			flush()
		}
		if lineWidth > 0 {
			line, lineWidth = line+" ", lineWidth+1
		}
		line, lineWidth = line+word, lineWidth+width
	}
	if lineWidth > 0 {
		flush()
	}
}

// printable replaces control characters: some of these texts come from
// firmware and hypervisors and go to a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}

// WriteTable writes the host as an aligned table for people.
func (h *Host) WriteTable(w io.Writer) error {
	var t table
	h.writeCPU(&t)
	h.writeMemory(&t)

	t.section("GPU")
	for _, g := range h.GPUs {
		t.row("gpu "+strconv.Itoa(g.Index), fmt.Sprintf("%s, %s, compute capability %s, driver %s, CUDA %s, %s",
			orUnknown(g.Name), size(g.Memory), orUnknown(g.ComputeCapability), orUnknown(g.Driver), orUnknown(g.CUDA), orUnknown(g.UUID)))
		for _, m := range g.MIG {
			t.row("", fmt.Sprintf("%s, %s, %s", orUnknown(m.Name), size(m.Memory), m.UUID))
		}
	}
	if len(h.GPUs) == 0 {
		t.row("gpus", "none: "+h.GPUReason)
	} else {
		t.row("note", h.GPUReason)
	}

	t.section("Host")
	h.writeInstance(&t)
	t.row("system", strings.TrimSpace(h.OS+" "+h.Kernel))
	t.row("glibc", either(h.Glibc, h.GlibcReason))
	t.row("fingerprint", h.Fingerprint())

	if _, err := io.WriteString(w, t.String()); err != nil {
		return fmt.Errorf("writing the host table: %w", err)
	}
	return nil
}

func (h *Host) writeCPU(t *table) {
	c := h.CPU
	t.section("CPU")
	t.row("model", fmt.Sprintf("%s (%s, family %d, model %d, stepping %d)",
		orUnknown(c.Model), orUnknown(c.Vendor), c.Family, c.ModelNumber, c.Stepping))
	t.row("level", string(c.Level))
	t.row("features", either(strings.Join(c.Features.List(), " "), "none of those that matter here"))
	t.row("masked", strings.Join(c.Masked, " "))
	t.row("mask", c.MaskReason)
	t.row("online", online(c))
	t.row("allowed", allowed(c))
	t.row("caches", either(caches(c.Caches), c.CachesReason))
	for _, n := range h.NUMA {
		t.row("numa node "+strconv.Itoa(n.ID), fmt.Sprintf("CPUs %s, %s", either(FormatCPUs(n.CPUs), "none"), size(n.Memory)))
	}
	if len(h.NUMA) == 0 {
		t.row("numa", h.NUMAReason)
	}
}

func (h *Host) writeMemory(t *table) {
	m := h.Memory
	t.section("Memory")
	if m.Total > 0 {
		t.row("total", fmt.Sprintf("%s, %s available", size(m.Total), size(m.Available)))
	} else {
		t.row("total", m.Reason)
	}
	t.row("cgroup limit", limit(m.Cgroup))
	t.row("may be pinned", limit(m.Memlock))
	for _, p := range m.HugePages {
		t.row("huge pages", fmt.Sprintf("%s: %d of %d free", size(p.Size), p.Free, p.Total))
	}
	t.row("transparent", m.TransparentHugePages)
}

func (h *Host) writeInstance(t *table) {
	i := h.Instance
	if i.Type != "" {
		t.row("instance", fmt.Sprintf("%s (Outposts: %s), from %s", i.Type, i.Outposts, i.Source))
	} else {
		t.row("instance", "unknown: "+i.Reason)
	}
	t.row("instance id", i.ID)
	t.row("zone", strings.TrimSpace(i.Region+" "+i.AvailabilityZone))
	t.row("outpost", i.OutpostARN)
	if i.Type != "" {
		t.row("note", i.Reason)
	}
}

func online(c CPU) string {
	text := plural(c.Threads, "logical CPU")
	if c.Cores > 0 {
		text += " on " + plural(c.Cores, "core")
	}
	if c.Sockets > 0 {
		text += " in " + plural(c.Sockets, "socket")
	}
	return text
}

func allowed(c CPU) string {
	text := strconv.FormatFloat(c.CoresAllowed, 'g', 4, 64) + " of them: "
	if len(c.Affinity) > 0 {
		text += "CPUs " + FormatCPUs(c.Affinity)
	} else {
		text += either(c.AffinityReason, "affinity unknown")
	}
	if c.Quota.Cores > 0 {
		return text + fmt.Sprintf("; quota of %.4g cores set by control group %s", c.Quota.Cores, c.Quota.Group)
	}
	if c.Quota.Reason != "" {
		text += "; " + c.Quota.Reason
	}
	return text
}

func caches(list []Cache) string {
	var parts []string
	for _, c := range list {
		name := "L" + strconv.Itoa(c.Level)
		switch c.Type {
		case "data":
			name += "d"
		case "instruction":
			name += "i"
		}
		text := name + " " + size(uint64(c.Size))
		if c.SharedBy > 1 {
			text += fmt.Sprintf(" shared by %d CPUs", c.SharedBy)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

func limit(l Limit) string {
	switch {
	case l.Unlimited && l.Reason == "":
		return "none"
	case l.Reason != "":
		return l.Reason
	}
	return size(l.Bytes)
}

// size writes bytes in the largest binary unit that leaves at least 1.
func size(bytes uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	value, unit := float64(bytes), 0
	for value >= 1024 && unit < len(units)-1 {
		value /= 1024
		unit++
	}
	return strconv.FormatFloat(value, 'f', decimals(value), 64) + " " + units[unit]
}

// decimals is how many keep a size to about three digits.
func decimals(value float64) int {
	if value == float64(int64(value)) || value >= 100 {
		return 0
	}
	return 1
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

func either(value, otherwise string) string {
	if value != "" {
		return value
	}
	return otherwise
}

func orUnknown(s string) string { return either(s, "unknown") }
