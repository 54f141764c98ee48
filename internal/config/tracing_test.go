package config

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestTracingFromTheEnvironment(t *testing.T) {
	off := Default().Tracing
	on := func(change func(*Tracing)) Tracing {
		tr := off
		tr.Endpoint = "http://127.0.0.1:4318"
		change(&tr)
		return tr
	}
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318"
	for name, c := range map[string]struct {
		yaml string
		env  []string
		want Tracing
	}{
		"nothing":                    {want: off},
		"variables without endpoint": {env: []string{"OTEL_SERVICE_NAME=x", "OTEL_EXPORTER_OTLP_PROTOCOL=carrier pigeon"}, want: off},
		"an endpoint":                {env: []string{endpoint + "/"}, want: on(func(*Tracing) {})},
		"a base with a path": {env: []string{"OTEL_EXPORTER_OTLP_ENDPOINT=https://otel.bank/collect"}, want: on(func(tr *Tracing) {
			tr.Endpoint = "https://otel.bank/collect/v1/traces"
		})},
		"an endpoint of traces": {env: []string{endpoint, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://other:4318/x"}, want: on(func(tr *Tracing) { tr.Endpoint = "http://other:4318/x" })},
		"one without a path":    {env: []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://other:4318"}, want: on(func(tr *Tracing) { tr.Endpoint = "http://other:4318/" })},
		"disabled":              {yaml: "tracing: {endpoint: 'http://127.0.0.1:4318'}", env: []string{"OTEL_SDK_DISABLED=True"}, want: off},
		"no exporter":           {env: []string{endpoint, "OTEL_TRACES_EXPORTER=none"}, want: off},
		"everything": {
			env: []string{
				"OTEL_EXPORTER_OTLP_ENDPOINT=https://otel.bank:4317", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=grpc",
				"OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20x, team = a=b ,", "OTEL_EXPORTER_OTLP_CERTIFICATE=/ca.pem", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE=/c.pem",
				"OTEL_EXPORTER_OTLP_CLIENT_KEY=/k.pem", "OTEL_EXPORTER_OTLP_TIMEOUT=2500", "OTEL_SERVICE_NAME=scorer", "OTEL_RESOURCE_ATTRIBUTES=service.name=not,deployment.environment.name=test",
				"OTEL_TRACES_SAMPLER=parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG=0.25", "OTEL_BSP_MAX_QUEUE_SIZE=99",
			},
			want: Tracing{
				Endpoint: "https://otel.bank:4317", Protocol: "grpc", Sample: 0.25, Service: "scorer", Queue: 99, Timeout: 2500 * time.Millisecond,
				Resource: []string{"service.name=not", "deployment.environment.name=test"}, Headers: []string{"authorization=Bearer x", "team=a=b"},
				CA: "/ca.pem", Certificate: "/c.pem", Key: "/k.pem",
			},
		},
		"the service among the attributes": {env: []string{endpoint, "OTEL_RESOURCE_ATTRIBUTES=service.name=scorer"}, want: on(func(tr *Tracing) {
			tr.Service, tr.Resource = "scorer", []string{"service.name=scorer"}
		})},
		"certificates of others": {env: []string{endpoint, "OTEL_EXPORTER_OTLP_CERTIFICATE=/ca.pem"}, want: on(func(*Tracing) {})},
		"always":                 {env: []string{endpoint, "OTEL_TRACES_SAMPLER=always_on"}, want: on(func(tr *Tracing) { tr.Sample = 1 })},
		"never":                  {env: []string{endpoint, "OTEL_TRACES_SAMPLER=parentbased_always_off"}, want: on(func(tr *Tracing) { tr.Sample = 0 })},
		"the file is stronger": {
			yaml: "tracing: {endpoint: 'http://127.0.0.1:4318', sample: 0, service: a, headers: [], protocol: http}",
			env:  []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://other", "OTEL_TRACES_SAMPLER=always_on", "OTEL_SERVICE_NAME=b", "OTEL_EXPORTER_OTLP_HEADERS=a=b", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"},
			want: on(func(tr *Tracing) { tr.Sample, tr.Service, tr.Headers = 0, "a", []string{} }),
		},
	} {
		t.Run(name, func(t *testing.T) {
			env := map[string]string{}
			for _, pair := range c.env {
				key, value, _ := strings.Cut(pair, "=")
				env[key] = value
			}
			flags := Flags{}
			if c.yaml != "" {
				flags.Config = write(t, "picketd.yaml", c.yaml)
			}
			got, err := Resolve(flags, func(name string) string { return env[name] })
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got.Tracing, c.want) {
				t.Errorf("got\n%+v\nwant\n%+v", got.Tracing, c.want)
			}
		})
	}
}

func TestTracingMistakes(t *testing.T) {
	const base = "tracing: {endpoint: 'http://127.0.0.1:4318', "
	for _, c := range []struct{ yaml, env, want string }{
		{"tracing: {endpoint: '127.0.0.1:4318'}", "", "tracing.endpoint: is not a URL"},
		{"tracing: {endpoint: 'ftp://collector'}", "", `tracing.endpoint: "ftp://collector" must begin with http://, https:// or unix://`},
		{"tracing: {endpoint: 'unix://run/otlp.sock'}", "", "tracing.endpoint: \"unix://run/otlp.sock\" must be unix:// and an absolute path"},
		{"tracing: {endpoint: 'http://user:secret@collector'}", "", "tracing.endpoint: has a user or a password in it"},
		{"tracing: {endpoint: 'http://collector/?a=b'}", "", "has more behind its path"},
		{"tracing: {endpoint: 'http://collector', protocol: grpc}", "", "has no port; collectors take grpc at 4317"},
		{base + "protocol: udp}", "", `tracing.protocol: "udp" is neither http nor grpc`},
		{base + "sample: 1.5}", "", "tracing.sample: 1.5 is outside 0 to 1"},
		{base + "sample: NaN}", "", `tracing.sample: "NaN" is not a number`},
		{base + "service: ''}", "", "tracing.service: is empty"},
		{base + "queue: 0}", "", "tracing.queue: 0 is outside 1 to 1048576"},
		{base + "timeout: 1h}", "", "tracing.timeout: 1h0m0s is outside 1ms to 10m0s"},
		{base + "headers: [secret]}", "", "tracing.headers[0]: must be of the form name=value"},
		{base + "headers: [\"a=secret\\r\\nb\"]}", "", "tracing.headers[0]: must be of the form name=value"},
		{base + "resource: ['=secret']}", "", "tracing.resource[0]: must be of the form name=value"},
		{base + "ca: /ca.pem}", "", "tracing.ca: is for endpoints that begin with https://"},
		{"tracing: {endpoint: 'https://collector', certificate: /c.pem}", "", "tracing.key: and tracing.certificate need each other"},
		{base + "queue: 9}", "OTEL_TRACES_SAMPLER=jaeger_remote", `OTEL_TRACES_SAMPLER: "jaeger_remote" is not supported`},
		{base + "queue: 9}", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/json", `OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: "http/json" is not supported`},
		{base + "queue: 9}", "OTEL_EXPORTER_OTLP_TIMEOUT=soon", `OTEL_EXPORTER_OTLP_TIMEOUT: "soon" is not a number of milliseconds`},
		{base + "queue: 9}", "OTEL_EXPORTER_OTLP_HEADERS=a=b,secret", "OTEL_EXPORTER_OTLP_HEADERS: entry 2 of the list is not of the form name=value"},
	} {
		key, value, _ := strings.Cut(c.env, "=")
		_, err := Resolve(Flags{Config: write(t, "picketd.yaml", c.yaml)}, func(name string) string {
			if name == key {
				return value
			}
			return ""
		})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s %s: got %v, want %q", c.yaml, c.env, err, c.want)
		}
	}
}
