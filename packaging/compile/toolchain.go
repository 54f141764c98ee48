package compile

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// toolchain runs one C compiler in one folder.
type toolchain struct {
	command []string // path and first arguments
	target  target
	dir     string // where the sources are; they are named relative to it, so that no path reaches the output
}

// strict are the flags of every compilation. The sums must be exactly the additions that were written: no contraction
// into fused operations, no reordering, no extended precision (which no target here has).
func strict() []string {
	return []string{"-std=c11", "-fPIC", "-fvisibility=default", "-ffp-contract=off", "-fno-fast-math", "-fno-asynchronous-unwind-tables", "-fno-ident", "-g0"}
}

// compile translates a source file to an object file.
func (c *toolchain) compile(ctx context.Context, source, object string, flags []string) error {
	args := append(append(strict(), flags...), "-c", source, "-o", object)
	_, err := c.run(ctx, append(append([]string{}, c.target.flags...), args...)...)
	return err
}

// link makes a shared library of objects.
func (c *toolchain) link(ctx context.Context, out string, objects []string) error {
	args := []string{"-shared", "-s", "-Wl,--build-id=none", "-Wl,--gc-sections", "-Wl,-z,defs", "-Wl,-z,relro", "-Wl,-z,now", "-Wl,-z,noexecstack"}
	if strings.HasPrefix(c.target.name, "x86-64-v") {
		// The library says itself what it needs, for hosts that get it without compiled.meta. Linkers that do not know
		// the word warn and go on.
		args = append(args, "-Wl,-z,"+c.target.name)
	}
	args = append(append(args, "-o", out), objects...)
	_, err := c.run(ctx, append(append(append([]string{}, c.target.flags...), args...), "-lm")...)
	return err
}

// version is the first line of what the compiler says about itself.
func (c *toolchain) version(ctx context.Context) (string, error) {
	out, err := c.run(ctx, "--version")
	first, _, _ := strings.Cut(out, "\n")
	return strings.TrimSpace(first), err
}

func (c *toolchain) run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.command[0], append(append([]string{}, c.command[1:]...), args...)...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TMPDIR="+c.dir, "SOURCE_DATE_EPOCH=0")
	// The compiler is a driver that starts others: a group of their own, so that a cancelled context stops all of them.
	inGroup(cmd)
	cmd.WaitDelay = 5 * time.Second
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return "", fmt.Errorf("running %s %s: %w: %s", c.command[0], strings.Join(args, " "), err, reason(complaint.String()))
	}
	return out.String(), nil
}

// reason is the line of a compiler's complaint that says what is wrong, with advice where the cause is known.
func reason(complaint string) string {
	line := strings.TrimSpace(complaint)
	for l := range strings.Lines(complaint) {
		if strings.Contains(l, "error") || strings.Contains(l, "undefined reference") {
			line = strings.TrimSpace(l)
			break
		}
	}
	line, _, _ = strings.Cut(line, "\n")
	switch {
	case line == "":
		return "it gave no reason"
	case strings.Contains(line, "No such file or directory") && strings.Contains(line, ".h"):
		return line + " (install the C library's headers: libc6-dev on Debian and Ubuntu, glibc-devel on Amazon Linux)"
	case strings.Contains(line, "-march"):
		return line + " (this compiler does not know the target; gcc 11 and clang 12 do)"
	}
	return line
}
