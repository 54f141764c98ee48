package migrate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/coreos/go-systemd/v22/unit"
	"github.com/spf13/pflag"
)

// maxTextFile is many times any real unit, configuration or certificate.
const maxTextFile = 1 << 20

// service is what a unit of systemd says of how the agent is run.
type service struct {
	file, name   string
	user, group  string
	dir          string // in which it runs, for relative paths
	command      []string
	environment  []string // NAME=VALUE, in order
	environments []string // files with more of them
	notes        []Note
}

// readService reads a unit and its drop-ins.
func readService(path string) (*service, error) {
	s := &service{file: path, name: filepath.Base(path), dir: "/"}
	files := []string{path}
	more, err := filepath.Glob(path + ".d/*.conf")
	if err != nil {
		return nil, fmt.Errorf("reading the unit %s: %w", path, err)
	}
	for _, file := range append(files, more...) {
		text, err := readText(file)
		if err != nil {
			return nil, fmt.Errorf("reading the unit: %w", err)
		}
		if err := s.parse(text); err != nil {
			return nil, fmt.Errorf("reading the unit %s: %w", file, err)
		}
	}
	if len(s.command) == 0 {
		return nil, fmt.Errorf("reading the unit %s: it has no ExecStart in a section Service", path)
	}
	return s, nil
}

// parse takes what a file of the unit says.
func (s *service) parse(text []byte) error {
	options, err := unit.DeserializeOptions(bytes.NewReader(text))
	if err != nil {
		return err
	}
	for _, o := range options {
		if o.Section != "Service" {
			continue
		}
		if strings.ContainsFunc(o.Value, func(r rune) bool { return unicode.IsControl(r) && r != '\t' && r != '\n' }) {
			return fmt.Errorf("%s: it has characters that cannot be printed", o.Name)
		}
		if err := s.take(o.Name, o.Value); err != nil {
			return fmt.Errorf("%s: %w", o.Name, err)
		}
	}
	return nil
}

func (s *service) take(key, value string) error {
	// A line that is continued on the next is one.
	value = strings.TrimSpace(strings.ReplaceAll(strings.ReplaceAll(value, "\\\n", " "), "\n", " "))
	if strings.HasSuffix(value, `\`) {
		return errors.New("it ends in the middle of a line")
	}
	switch key {
	case "User":
		s.user = value
	case "Group":
		s.group = value
	case "WorkingDirectory":
		s.dir = strings.TrimPrefix(value, "-")
		if !filepath.IsAbs(s.dir) {
			return fmt.Errorf("%q is no absolute path; name the files with flags", value)
		}
	case "ExecStart":
		words, err := words(value)
		if err != nil {
			return err
		}
		s.command = words // an empty one takes back what was said before
		if len(words) > 0 {
			s.command[0] = strings.TrimLeft(words[0], "-@:+!")
		}
	case "Environment":
		words, err := words(value)
		if err != nil {
			return err
		}
		if len(words) == 0 {
			s.environment = nil
		}
		s.environment = append(s.environment, words...)
	case "EnvironmentFile":
		if value == "" {
			s.environments = nil
			return nil
		}
		s.environments = append(s.environments, value)
	case "ExecStartPre", "ExecStartPost", "ExecStop", "ExecReload":
		s.notes = append(s.notes, Note{s.name, fmt.Sprintf("%s=%s is not taken over", key, value)})
	}
	return nil
}

// words splits a line as systemd does: at blanks, with quotes around words or parts of them.
func words(line string) ([]string, error) {
	var all []string
	var word strings.Builder
	in, escaped, quote := false, false, rune(0)
	for _, r := range line {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, in = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '"' || r == '\'':
			quote, in = r, true
		case r == ' ' || r == '\t' || r == '\n':
			if in {
				all = append(all, word.String())
			}
			word.Reset()
			in = false
		default:
			word.WriteRune(r)
			in = true
		}
	}
	if quote != 0 || escaped {
		return nil, errors.New("a quote is not closed")
	}
	if in {
		all = append(all, word.String())
	}
	return all, nil
}

// agentFlags are those of the agent's command line.
type agentFlags struct{ socket, config, maxMessage string }

// flags are those that the unit gives the agent. Relative paths are those of its working directory.
func (s *service) flags() (agentFlags, error) {
	var f agentFlags
	set := pflag.NewFlagSet("agent", pflag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.StringVarP(&f.socket, "socket", "a", "", "")
	set.StringVarP(&f.config, "config", "c", "", "")
	set.StringVarP(&f.maxMessage, "message", "m", "", "")
	set.BoolP("force", "f", false, "")
	command := slices.Clone(s.command[1:])
	for i, word := range command {
		command[i] = os.Expand(word, s.variable)
		if strings.ContainsRune(command[i], '%') {
			return f, fmt.Errorf("the unit %s: %q holds a specifier of systemd, which is not understood; name the files with flags", s.file, word)
		}
	}
	if err := set.Parse(command); err != nil {
		return f, fmt.Errorf("the unit %s does not start the agent itself (%w); name its files with flags", s.file, err)
	}
	for _, path := range []*string{&f.socket, &f.config} {
		if *path = strings.TrimPrefix(*path, "unix://"); *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(s.dir, *path)
		}
	}
	return f, nil
}

// variable is what the unit says of an environment variable.
func (s *service) variable(name string) string {
	for _, one := range slices.Backward(s.environment) {
		if value, found := strings.CutPrefix(one, name+"="); found {
			return value
		}
	}
	return "$" + name // as it stood
}

// takenOver tells whether a variable of the agent's environment means the same to picketd.
func takenOver(name string) bool {
	switch strings.ToUpper(name) {
	case "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY":
		return true
	case "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN":
		return false // not into a file that all can read
	}
	return strings.HasPrefix(name, "AWS_") || strings.HasPrefix(name, "OMP_") || strings.HasPrefix(name, "TVM_")
}

// dropIn is what must be added to picketd's unit.
func (s *service) dropIn(c needs) string {
	var b strings.Builder
	b.WriteString("# Written by picket migrate, beside what the agent's unit said.\n")
	if s != nil {
		fmt.Fprintf(&b, "[Unit]\n# Both would have the same socket.\nConflicts=%s\nAfter=%s\n\n", s.name, s.name)
	}
	b.WriteString("[Service]\n")
	if s != nil && s.user != "" && s.user != "root" && s.user != "0" {
		fmt.Fprintf(&b, "# The agent's user, so that who could connect still can, and that its files and its clients' shared memory can be read.\nUser=%s\n", s.user)
		if s.group != "" {
			fmt.Fprintf(&b, "Group=%s\n", s.group)
		} else {
			b.WriteString("Group=\n")
		}
	}
	if s != nil {
		for _, one := range s.environment {
			if name, _, _ := strings.Cut(one, "="); takenOver(name) {
				fmt.Fprintf(&b, "Environment=\"%s\"\n", strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(one))
			}
		}
		for _, file := range s.environments {
			fmt.Fprintf(&b, "EnvironmentFile=%s\n", file)
		}
	}
	if c.tmp {
		b.WriteString("# Clients look for the socket in the host's /tmp.\nPrivateTmp=no\n")
	}
	if c.home {
		b.WriteString("# Files of the agent lie in a home.\nProtectHome=read-only\n")
	}
	for _, dir := range c.write {
		fmt.Fprintf(&b, "ReadWritePaths=%s\n", dir)
	}
	if c.network {
		b.WriteString("# Captured data goes to S3, and credentials come from AWS IoT.\nIPAddressAllow=any\n")
	}
	return b.String()
}

// needs are what picketd must be allowed beyond its unit.
type needs struct {
	tmp, home, network bool
	write              []string
}

// readText reads a file that cannot be large.
func readText(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxTextFile+1))
	if err == nil && len(data) > maxTextFile {
		err = fmt.Errorf("%s has more than %d bytes; is it the right file?", path, maxTextFile)
	}
	return data, err
}
