package main

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// source is what a list of contents is made of. The Go modules are those that the
// linker has written into the programs.
type source struct {
	name, version string
	programs      []string
	debian        string   // a directory with a control file for each Debian package
	python        []string // NAME@VERSION
}

// The parts of SPDX 2.3 that are used; https://spdx.github.io/spdx-spec/v2.3/ has their
// meaning.
type (
	document struct {
		SPDXVersion   string         `json:"spdxVersion"`
		DataLicense   string         `json:"dataLicense"`
		ID            string         `json:"SPDXID"`
		Name          string         `json:"name"`
		Namespace     string         `json:"documentNamespace"`
		Creation      creation       `json:"creationInfo"`
		Describes     []string       `json:"documentDescribes"`
		Packages      []part         `json:"packages"`
		Relationships []relationship `json:"relationships"`
	}
	creation struct {
		Created  string   `json:"created"`
		Creators []string `json:"creators"`
	}
	part struct {
		ID               string      `json:"SPDXID"`
		Name             string      `json:"name"`
		Version          string      `json:"versionInfo"`
		Purpose          string      `json:"primaryPackagePurpose,omitempty"`
		DownloadLocation string      `json:"downloadLocation"`
		FilesAnalyzed    bool        `json:"filesAnalyzed"`
		LicenseConcluded string      `json:"licenseConcluded"`
		LicenseDeclared  string      `json:"licenseDeclared"`
		Copyright        string      `json:"copyrightText"`
		Checksums        []checksum  `json:"checksums,omitempty"`
		References       []reference `json:"externalRefs,omitempty"`
	}
	checksum struct {
		Algorithm string `json:"algorithm"`
		Value     string `json:"checksumValue"`
	}
	reference struct {
		Category string `json:"referenceCategory"`
		Type     string `json:"referenceType"`
		Locator  string `json:"referenceLocator"`
	}
	relationship struct {
		From string `json:"spdxElementId"`
		Kind string `json:"relationshipType"`
		To   string `json:"relatedSpdxElement"`
	}
)

const unknown = "NOASSERTION"

// notInID are the characters that an identifier of SPDX cannot have.
var notInID = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

// sbom is a document under construction.
type sbom struct {
	document
	known map[string]string // identifiers by what is unique of the part
}

// add has a part in the document once, and says what it is called there.
func (s *sbom) add(kind, name, version, purl string, p part) string {
	unique := kind + " " + cmp.Or(purl, name)
	if id, ok := s.known[unique]; ok {
		return id
	}
	p.ID = "SPDXRef-" + notInID.ReplaceAllString(kind+"-"+name, "-") + "-" + strconv.Itoa(len(s.Packages))
	p.Name, p.Version = name, version
	p.DownloadLocation, p.LicenseConcluded, p.Copyright = unknown, unknown, unknown
	p.LicenseDeclared = cmp.Or(p.LicenseDeclared, unknown)
	if purl != "" {
		p.References = []reference{{Category: "PACKAGE-MANAGER", Type: "purl", Locator: purl}}
	}
	s.Packages = append(s.Packages, p)
	s.known[unique] = p.ID
	return p.ID
}

func (s *sbom) relate(from, kind, to string) {
	r := relationship{from, kind, to}
	if !slices.Contains(s.Relationships, r) {
		s.Relationships = append(s.Relationships, r)
	}
}

// writeSBOM writes the list. The same input gives the same bytes: its time is
// $SOURCE_DATE_EPOCH, which must be set.
func writeSBOM(w io.Writer, from source) error {
	if from.name == "" || from.version == "" || len(from.programs) == 0 {
		return errors.New("listing the contents: --name, --version and at least one program are needed")
	}
	at, err := epoch()
	if err != nil {
		return fmt.Errorf("listing the contents: %w", err)
	}
	s := sbom{known: map[string]string{}}
	s.SPDXVersion, s.DataLicense, s.ID = "SPDX-2.3", "CC0-1.0", "SPDXRef-DOCUMENT"
	s.Name = from.name + "-" + from.version
	s.Creation = creation{Created: at.Format(time.RFC3339), Creators: []string{"Organization: Picket", "Tool: picket-release"}}
	whole := s.add("release", from.name, from.version, "", part{LicenseDeclared: "Apache-2.0"})
	s.Describes = []string{whole}
	s.relate(s.ID, "DESCRIBES", whole)
	for _, program := range from.programs {
		id, err := s.addProgram(program, from.version)
		if err != nil {
			return fmt.Errorf("listing the contents: %w", err)
		}
		s.relate(whole, "CONTAINS", id)
	}
	if err := s.addDebian(whole, from.debian); err != nil {
		return fmt.Errorf("listing the contents: %w", err)
	}
	for _, p := range from.python {
		name, version, found := strings.Cut(p, "@")
		if !found {
			return fmt.Errorf("listing the contents: --python %s has no version, write NAME@VERSION", p)
		}
		s.relate(whole, "CONTAINS", s.add("python", name, version, "pkg:pypi/"+name+"@"+version, part{}))
	}
	// A name that no other document has: it follows from what is in this one.
	text, err := json.Marshal(s.document)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	s.Namespace = "https://github.com/picket-ml/picket/spdx/" + url.PathEscape(s.Name) + "-" + hex.EncodeToString(sum[:16])
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(s.document)
}

// addProgram adds a program, its modules, and the Go that has compiled it.
func (s *sbom) addProgram(path, version string) (string, error) {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading what %s was built of: %w", path, err)
	}
	sum, err := digest(path)
	if err != nil {
		return "", err
	}
	platform := map[string]string{}
	for _, setting := range info.Settings {
		platform[setting.Key] = setting.Value
	}
	name := filepath.Base(path)
	id := s.add("program", name+"-"+platform["GOOS"]+"-"+platform["GOARCH"], version, "", part{
		Purpose: "APPLICATION", LicenseDeclared: "Apache-2.0", Checksums: []checksum{{"SHA256", sum}},
	})
	goVersion := strings.TrimPrefix(info.GoVersion, "go")
	s.relate(id, "DEPENDS_ON", s.add("go", "stdlib", goVersion, "pkg:golang/stdlib@"+goVersion, part{LicenseDeclared: "BSD-3-Clause"}))
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		s.relate(id, "DEPENDS_ON", s.add("go", m.Path, m.Version, "pkg:golang/"+m.Path+"@"+m.Version, part{}))
	}
	return id, nil
}

// addDebian adds the Debian packages whose control files lie in the directory.
func (s *sbom) addDebian(whole, dir string) error {
	if dir == "" {
		return nil
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("there is no control file in %s", dir)
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		fields := map[string]string{}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			if name, value, found := strings.Cut(lines.Text(), ": "); found && !strings.HasPrefix(name, " ") {
				fields[name] = value
			}
		}
		_ = f.Close() // nothing was written
		if err := lines.Err(); err != nil {
			return fmt.Errorf("reading %s: %w", file, err)
		}
		name, version, arch := fields["Package"], fields["Version"], fields["Architecture"]
		if name == "" || version == "" || arch == "" {
			return fmt.Errorf("%s is no control file of a Debian package", file)
		}
		purl := "pkg:deb/debian/" + name + "@" + url.PathEscape(version) + "?arch=" + arch
		s.relate(whole, "CONTAINS", s.add("debian", name, version, purl, part{}))
	}
	return nil
}
