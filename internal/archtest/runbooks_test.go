package archtest

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	alert     = regexp.MustCompile(`(?m)^ +- alert: (\w+)$`)
	alarmName = regexp.MustCompile(`AlarmName: !Sub "\$\{Fleet\}-\$\{Model\}-([a-z-]+)"`)
	heading   = regexp.MustCompile(`(?m)^### (.+)$`)
	blocks    = regexp.MustCompile("(?m)^```sh runbook=")
	notAnchor = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

func readText(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile("../../" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// Each alert and each alarm has a runbook with commands, which scripts/test_runbooks.py runs, and says where it is; and no runbook
// of the chapter is of an alarm that is no more.
func TestRunbooks(t *testing.T) {
	document := readText(t, "docs/runbooks.md")
	_, chapter, found := strings.Cut(document, "\n## Alarms\n")
	chapter, _, ends := strings.Cut(chapter, "\n## Without an alarm\n")
	if !found || !ends {
		t.Fatal("docs/runbooks.md has no chapter Alarms before the one Without an alarm")
	}
	anchors := map[string]string{}
	sections := heading.FindAllStringSubmatchIndex(chapter, -1)
	for i, at := range sections {
		title, end := chapter[at[2]:at[3]], len(chapter)
		if i+1 < len(sections) {
			end = sections[i+1][0]
		}
		if body := chapter[at[1]:end]; !blocks.MatchString(body) || !strings.Contains(body, "*Means:*") || !strings.Contains(body, "*Do:*") {
			t.Errorf("the runbook %q does not say what it means, what to do, and how", title)
		}
		anchor := strings.ReplaceAll(notAnchor.ReplaceAllString(strings.ToLower(title), ""), " ", "-")
		for name := range strings.SplitSeq(title, ", ") {
			if anchors[name] != "" {
				t.Errorf("%s has two runbooks", name)
			}
			anchors[name] = "docs/runbooks.md#" + anchor
		}
	}
	var known []string
	for file, name := range map[string]*regexp.Regexp{"deploy/prometheus/alerts.yaml": alert, "deploy/cloudformation/monitoring.yaml": alarmName} {
		text := readText(t, file)
		all := name.FindAllStringSubmatchIndex(text, -1)
		if len(all) == 0 {
			t.Fatalf("%s has no alarm", file)
		}
		for i, at := range all {
			one, end := text[at[2]:at[3]], len(text)
			if i+1 < len(all) {
				end = all[i+1][0]
			}
			known = append(known, one)
			if anchors[one] == "" {
				t.Errorf("%s: %s has no runbook", file, one)
			} else if rest := text[at[1]:end]; !regexp.MustCompile(regexp.QuoteMeta(anchors[one]) + `\.?\n`).MatchString(rest) {
				t.Errorf("%s: %s does not name its runbook, %s", file, one, anchors[one])
			}
		}
	}
	for name := range anchors {
		if !slices.Contains(known, name) {
			t.Errorf("docs/runbooks.md has a runbook for %s, which is no alarm", name)
		}
	}
}

// Each threat is tied to a test; that those exist is TestDocs's to say. What nothing of ours stops must say where that is checked.
func TestThreats(t *testing.T) {
	_, table, found := strings.Cut(readText(t, "docs/SECURITY.md"), "| threat | from → to | what stops it | shown by |\n|---|---|---|---|\n")
	if !found {
		t.Fatal("docs/SECURITY.md has no table of threats")
	}
	rows := 0
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		rows++
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if len(cells) != 4 || strings.Contains(line, "|  |") {
			t.Errorf("a threat with %d cells: %s", len(cells), line)
			continue
		}
		if shown := cells[3]; !testName.MatchString(shown) && !strings.Contains(shown, "`make test-") {
			t.Errorf("nothing shows that this is stopped: %s", line)
		}
	}
	if rows < 20 {
		t.Errorf("there are only %d threats", rows)
	}
}
