package config

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Tracing says which requests are traced and where the traces go. It is off
// while Endpoint is empty.
type Tracing struct {
	// Endpoint is the URL of a collector, with the scheme http, https or unix.
	Endpoint string `yaml:"endpoint"`
	// Protocol is "http" or "grpc".
	Protocol string `yaml:"protocol"`
	// Sample is the fraction of requests without a parent that are traced.
	Sample float64 `yaml:"sample"`
	// Service is what the daemon is called.
	Service string `yaml:"service"`
	// Resource is what else there is to say of it, each as "name=value".
	Resource []string `yaml:"resource"`
	// Headers go with every export, each as "name=value".
	Headers []string `yaml:"headers"`
	// CA, Certificate and Key are PEM files, absolute; empty for none.
	CA          string `yaml:"ca"`
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
	// Queue is how many spans may wait to be sent.
	Queue int `yaml:"queue"`
	// Timeout is how long one export may take.
	Timeout time.Duration `yaml:"timeout"`
}

// otelPrefix is that of the variables for what is exported; those for traces alone
// have "TRACES_" behind it and are stronger.
const otelPrefix = "OTEL_EXPORTER_OTLP_"

// applyEnv fills in from OpenTelemetry's variables what the file leaves out. They
// are the platform's word about all services of the host, so the file is stronger;
// but OTEL_SDK_DISABLED, and OTEL_TRACES_EXPORTER=none, turn tracing off whatever
// the file says.
func (t *Tracing) applyEnv(getenv func(string) string, from origin) error {
	if strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") || getenv("OTEL_TRACES_EXPORTER") == "none" {
		t.Endpoint = ""
		from.replaced("tracing.endpoint")
		return nil
	}
	if t.Endpoint == "" {
		t.Endpoint = endpointFrom(getenv)
	}
	if t.Endpoint == "" {
		return nil // the other variables are about something that is off
	}
	var mistakes []error
	missing := func(key, variable string, take func(value string) error) {
		if from.gives("tracing." + key) {
			return
		}
		name := variable
		if suffix, ok := strings.CutPrefix(variable, otelPrefix); ok && getenv(otelPrefix+"TRACES_"+suffix) != "" {
			name = otelPrefix + "TRACES_" + suffix
		}
		if value := getenv(name); value != "" {
			if err := take(value); err != nil {
				mistakes = append(mistakes, fmt.Errorf("%s: %w", name, err))
			}
		}
	}
	text := func(to *string) func(string) error {
		return func(value string) error { *to = value; return nil }
	}
	list := func(to *[]string) func(string) error {
		return func(value string) (err error) { *to, err = pairsFrom(value); return err }
	}
	missing("protocol", otelPrefix+"PROTOCOL", t.takeProtocol)
	missing("sample", "OTEL_TRACES_SAMPLER", func(name string) error { return t.takeSampler(name, getenv("OTEL_TRACES_SAMPLER_ARG")) })
	missing("resource", "OTEL_RESOURCE_ATTRIBUTES", list(&t.Resource))
	missing("service", "OTEL_SERVICE_NAME", text(&t.Service))
	if !from.gives("tracing.service") && getenv("OTEL_SERVICE_NAME") == "" {
		t.Service = serviceAmong(t.Resource, t.Service)
	}
	missing("headers", otelPrefix+"HEADERS", list(&t.Headers))
	if t.scheme() == "https" { // elsewhere they are for other programs
		missing("ca", otelPrefix+"CERTIFICATE", text(&t.CA))
		missing("certificate", otelPrefix+"CLIENT_CERTIFICATE", text(&t.Certificate))
		missing("key", otelPrefix+"CLIENT_KEY", text(&t.Key))
	}
	missing("timeout", otelPrefix+"TIMEOUT", func(value string) error {
		ms, err := strconv.Atoi(value)
		t.Timeout = time.Duration(ms) * time.Millisecond
		if err != nil || ms < 1 || ms > int(maxTimeout/time.Millisecond) {
			return fmt.Errorf("%s is not a number of milliseconds from 1 to %d", quote(value), maxTimeout/time.Millisecond)
		}
		return nil
	})
	missing("queue", "OTEL_BSP_MAX_QUEUE_SIZE", func(value string) (err error) { t.Queue, err = parseInt(value); return err })
	return errors.Join(mistakes...)
}

// endpointFrom is the endpoint that the variables name. That for all signals is a
// base, to which the path for traces is added; that for traces is taken as it is.
func endpointFrom(getenv func(string) string) string {
	if whole := getenv(otelPrefix + "TRACES_ENDPOINT"); whole != "" {
		if u, err := url.Parse(whole); err == nil && u.Scheme != "unix" && u.Path == "" {
			u.Path = "/"
			return u.String()
		}
		return whole
	}
	base := getenv(otelPrefix + "ENDPOINT")
	if u, err := url.Parse(base); err == nil && u.Scheme != "unix" && strings.Trim(u.Path, "/") != "" {
		return u.JoinPath("v1", "traces").String()
	}
	return strings.TrimSuffix(base, "/")
}

func (t *Tracing) takeProtocol(value string) error {
	switch value {
	case "http/protobuf":
		t.Protocol = "http"
	case "grpc":
		t.Protocol = "grpc"
	default:
		return fmt.Errorf("%s is not supported: use http/protobuf or grpc", quote(value))
	}
	return nil
}

// takeSampler reads a sampler of the standard. Whatever its name says of parents,
// a parent's decision is respected.
func (t *Tracing) takeSampler(name, argument string) error {
	switch strings.TrimPrefix(name, "parentbased_") {
	case "always_on":
		t.Sample = 1
	case "always_off":
		t.Sample = 0
	case "traceidratio":
		t.Sample = 1
		if argument != "" {
			fraction, err := parseFloat(argument)
			if err != nil {
				return fmt.Errorf("OTEL_TRACES_SAMPLER_ARG: %w", err)
			}
			t.Sample = fraction
		}
	default:
		return fmt.Errorf("%s is not supported: use always_on, always_off or traceidratio, with or without parentbased_ before it", quote(name))
	}
	return nil
}

// pairsFrom reads the standard's lists: "name=value" with commas between, values
// with %XX for odd characters.
func pairsFrom(text string) ([]string, error) {
	var pairs []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		name, value, found := strings.Cut(part, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if name = strings.TrimSpace(name); !found || name == "" || err != nil {
			// Not what it says: headers may be secret.
			return nil, fmt.Errorf("entry %d of the list is not of the form name=value, with %%XX for odd characters", len(pairs)+1)
		}
		pairs = append(pairs, name+"="+value)
	}
	return pairs, nil
}

// serviceAmong is the service's name where the attributes have it.
func serviceAmong(resource []string, otherwise string) string {
	for _, pair := range resource {
		if name, value, _ := strings.Cut(pair, "="); name == "service.name" && value != "" {
			return value
		}
	}
	return otherwise
}

const (
	maxTimeout = 10 * time.Minute
	maxSpans   = 1 << 20
)

// check looks at no file and resolves no name.
func (t Tracing) check(k *checker) {
	if t.Sample < 0 || t.Sample > 1 {
		k.add("tracing.sample", "%v is outside 0 to 1", t.Sample)
	}
	if t.Protocol != "http" && t.Protocol != "grpc" {
		k.add("tracing.protocol", "%s is neither http nor grpc", quote(t.Protocol))
	}
	if t.Service == "" {
		k.add("tracing.service", "is empty")
	}
	k.between("tracing.queue", t.Queue, 1, maxSpans)
	if t.Timeout < time.Millisecond || t.Timeout > maxTimeout {
		k.add("tracing.timeout", "%v is outside 1ms to %v", t.Timeout, maxTimeout)
	}
	for _, l := range []struct {
		path  string
		pairs []string
	}{{"tracing.resource", t.Resource}, {"tracing.headers", t.Headers}} {
		for i, pair := range l.pairs {
			if at := strings.Index(pair, "="); at < 1 || strings.ContainsAny(pair, "\r\n\x00") || strings.Contains(pair[:at], " ") {
				k.add(fmt.Sprintf("%s[%d]", l.path, i), "must be of the form name=value") // not what it says: it may be secret
			}
		}
	}
	t.checkEndpoint(k)
	for _, f := range []struct{ path, value string }{
		{"tracing.ca", t.CA}, {"tracing.certificate", t.Certificate}, {"tracing.key", t.Key},
	} {
		if f.value == "" {
			continue
		}
		k.absolute(f.path, f.value)
		if t.Endpoint != "" && t.scheme() != "https" {
			k.add(f.path, "is for endpoints that begin with https://")
		}
	}
	if (t.Certificate == "") != (t.Key == "") {
		k.add("tracing.key", "and tracing.certificate need each other")
	}
}

func (t Tracing) scheme() string {
	scheme, _, _ := strings.Cut(t.Endpoint, "://")
	return scheme
}

func (t Tracing) checkEndpoint(k *checker) {
	if t.Endpoint == "" {
		return
	}
	const path = "tracing.endpoint"
	u, err := url.Parse(t.Endpoint)
	switch {
	case err != nil:
		k.add(path, "is not a URL such as http://127.0.0.1:4318") // not what it says: there may be a password in it
	case u.User != nil:
		k.add(path, "has a user or a password in it: send them with tracing.headers")
	case u.RawQuery != "" || u.Fragment != "":
		k.add(path, "%s has more behind its path than a collector takes", quote(t.Endpoint))
	case u.Scheme == "unix":
		if u.Host != "" || len(u.Path) < 2 || len(u.Path) > maxSocketPath {
			k.add(path, "%s must be unix:// and an absolute path of at most %d bytes, such as unix:///run/otel/otlp.sock", quote(t.Endpoint), maxSocketPath)
		}
	case (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "":
		if t.Protocol == "grpc" && u.Port() == "" {
			k.add(path, "%s has no port; collectors take grpc at 4317", quote(t.Endpoint))
		}
	default:
		k.add(path, "%s must begin with http://, https:// or unix://, such as http://127.0.0.1:4318", quote(t.Endpoint))
	}
}
