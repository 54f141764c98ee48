package oip

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	promodel "github.com/prometheus/common/model"
)

// series is what the daemon exports under one name: its labels with all their values.
type series map[string]map[string]bool

// queryCheck holds queries to what the daemon exports. It reads as much of the
// language as it takes to tell names of metrics, labels and functions apart.
type queryCheck struct {
	exported map[string]series
	tokens   []string
	used     []series // what the query is about
	grouping []string
}

// Prometheus adds these labels to all that it scrapes, and the series up.
var scrapeLabels = []string{"instance", "job"}

var (
	queryToken = regexp.MustCompile(`"[^"]*"|\[[^\]]*\]|[A-Za-z_:][\w:]*|[0-9][0-9.]*|[=!]~|[=!<>]=|[-+*/%^<>=(){},]|\S`)
	queryName  = regexp.MustCompile(`^[A-Za-z_:][\w:]*$`)
	legendName = regexp.MustCompile(`\{\{\s*(\w+)\s*\}\}`)
	listValues = regexp.MustCompile(`^label_values\((.+), (\w+)\)$`)
)

var (
	queryFunctions   = []string{"rate", "histogram_quantile", "absent", "changes", "increase"}
	queryAggregates  = []string{"sum", "max", "count"}
	queryModifiers   = []string{"by", "on", "group_left"}
	queryConjunction = []string{"and"}
	queryOperators   = []string{"+", "-", "*", "/", "<", ">", "==", "!=", ","}
)

// checkQuery is an error when the query, or the legend that belongs to it, names
// what is not exported.
func checkQuery(exported map[string]series, query, legend string) error {
	c := &queryCheck{exported: exported}
	if list := listValues.FindStringSubmatch(query); list != nil {
		query, legend = list[1], "{{"+list[2]+"}}"
	}
	c.tokens = queryToken.FindAllString(query, -1)
	if err := c.run(); err != nil {
		return fmt.Errorf("%w, in %s", err, query)
	}
	for _, name := range legendName.FindAllStringSubmatch(legend, -1) {
		c.grouping = append(c.grouping, name[1])
	}
	for _, label := range c.grouping {
		if !slices.Contains(scrapeLabels, label) && !slices.ContainsFunc(c.used, func(s series) bool { return s[label] != nil }) {
			return fmt.Errorf("no metric has the label %s, in %s %s", label, query, legend)
		}
	}
	if len(c.used) == 0 {
		return fmt.Errorf("no metric is in %q", query)
	}
	return nil
}

func (c *queryCheck) peek() string {
	if len(c.tokens) == 0 {
		return ""
	}
	return c.tokens[0]
}

func (c *queryCheck) next() string {
	token := c.peek()
	c.tokens = c.tokens[min(1, len(c.tokens)):]
	return token
}

func (c *queryCheck) run() error {
	depth := 0
	for len(c.tokens) > 0 {
		token := c.next()
		switch {
		case token == "(":
			depth++
		case token == ")":
			if depth--; depth < 0 {
				return fmt.Errorf("there is a parenthesis too many")
			}
		case token[0] == '[':
			if span := strings.Trim(token, "[]"); span != "$__rate_interval" {
				if _, err := promodel.ParseDuration(span); err != nil {
					return err
				}
			}
		case slices.Contains(queryModifiers, token):
			if err := c.labels(); err != nil {
				return err
			}
		case slices.Contains(queryConjunction, token):
		case slices.Contains(queryFunctions, token), slices.Contains(queryAggregates, token):
			if after := c.peek(); after != "(" && after != "by" {
				return fmt.Errorf("%s is followed by %q", token, after)
			}
		case queryName.MatchString(token):
			if err := c.metric(token); err != nil {
				return err
			}
		case slices.Contains(queryOperators, token), token[0] >= '0' && token[0] <= '9':
		default:
			return fmt.Errorf("%q is not understood", token)
		}
	}
	if depth != 0 {
		return fmt.Errorf("%d parentheses are not closed", depth)
	}
	return nil
}

// labels reads those behind a modifier.
func (c *queryCheck) labels() error {
	if token := c.next(); token != "(" {
		return fmt.Errorf("%q is where labels are to be", token)
	}
	for {
		switch token := c.next(); {
		case token == ")":
			return nil
		case token == ",":
		case queryName.MatchString(token):
			c.grouping = append(c.grouping, token)
		default:
			return fmt.Errorf("%q is not a label", token)
		}
	}
}

// metric reads what is in braces behind the name of a metric, if anything.
func (c *queryCheck) metric(name string) error {
	s, ok := c.exported[name]
	if !ok {
		return fmt.Errorf("there is no metric or function %s", name)
	}
	c.used = append(c.used, s)
	if c.peek() != "{" {
		return nil
	}
	c.next()
	for {
		label, is, quoted := c.next(), c.next(), c.next()
		if len(quoted) < 2 || quoted[0] != '"' || !slices.Contains([]string{"=", "!=", "=~", "!~"}, is) {
			return fmt.Errorf("%s%s%s is not a matcher", label, is, quoted)
		}
		if err := matches(name, s, label, is, quoted[1:len(quoted)-1]); err != nil {
			return err
		}
		switch token := c.next(); token {
		case ",":
		case "}":
			return nil
		default:
			return fmt.Errorf("%q is behind the matcher of %s", token, label)
		}
	}
}

// matches tells whether the label of a matcher is there, and its values. Those of
// scraping, and those that people choose, are not known here.
func matches(name string, s series, label, is, value string) error {
	if slices.Contains(scrapeLabels, label) || s[label] != nil && strings.HasPrefix(value, "$") {
		return nil
	}
	if s[label] == nil {
		return fmt.Errorf("%s has no label %s", name, label)
	}
	values := []string{value}
	if strings.HasSuffix(is, "~") {
		values = strings.Split(value, "|")
	}
	for _, v := range values {
		if !s[label][v] {
			return fmt.Errorf("%s never has %s=%q", name, label, v)
		}
	}
	return nil
}
