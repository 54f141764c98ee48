package config

import (
	"os"
	"strings"
	"testing"
)

func FuzzYAML(f *testing.F) {
	example, err := os.ReadFile("example.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	f.Add([]byte("models:\n- {name: a, path: /a, batch_delay: 1ms}\nmodel_defaults: {pin: true}\n"))
	f.Add([]byte("a: &a [*a, *a]\n<<: *a\n"))
	f.Add([]byte("sockets: {agent: {paths: [x], mode: 0777}}\n? [complex]\n: key\n"))
	f.Add([]byte("\xff\xfe{"))
	f.Add([]byte("limits: {max_message: 99999999999999999999GiB}"))
	f.Fuzz(func(t *testing.T, data []byte) { checkParse(t, "c.yaml", data) })
}

func FuzzLegacyJSON(f *testing.F) {
	f.Add([]byte(fullLegacy))
	f.Add([]byte(complete + "}"))
	f.Add([]byte(`{"sagemaker_edge_core_region": {"a": [[[[]]]]}}`))
	f.Add([]byte(`{"sagemaker_edge_core_capture_data_buffer_size": -0.1e999}`))
	f.Add([]byte(`{"sagemaker_edge_core_device_name": "\u0000\ud800"}`))
	f.Add([]byte("{}x"))
	f.Fuzz(func(t *testing.T, data []byte) { checkParse(t, "c.json", data) })
}

// checkParse requires of any file: an error of whole lines, or a configuration
// whose values are within bounds (a legacy file can only produce valid ones).
func checkParse(t *testing.T, name string, data []byte) {
	c, _, err := parse(name, data)
	if err != nil {
		if text := err.Error(); text == "" || strings.Contains(text, "\n\n") || strings.HasSuffix(text, "\n") {
			t.Fatalf("not a list of sentences: %q", text)
		}
		return
	}
	err = c.Validate()
	if c.Legacy != nil {
		if err != nil {
			t.Fatalf("a legacy file made an invalid configuration: %v", err)
		}
		l := c.Legacy.Capture
		if l.BatchSize < 1 || l.BatchSize > l.BufferSize || l.EmbedLimit > maxEmbedLimit || l.PushPeriod <= 0 || l.UploadPeriod <= 0 {
			t.Fatalf("out of bounds: %+v", l)
		}
		if len(c.Warnings) > maxWarnings+1 {
			t.Fatalf("%d warnings", len(c.Warnings))
		}
	}
	if err != nil {
		return
	}
	writeAndRead(t, c)
	// What is valid stays valid when it is completed.
	if c.Limits.MaxMessage <= 0 || c.Limits.MaxConnections <= 0 || len(c.Sockets.Agent.Paths) == 0 && !c.TCP.Agent || c.ModelDefaults.Threads < 0 || c.ModelDefaults.ExpectedRows < 1 {
		t.Fatalf("valid and unusable: %+v", c)
	}
	for _, path := range c.Sockets.Agent.Paths {
		if full := c.Sockets.locate(path); !strings.HasPrefix(full, "/") || len(full) > maxSocketPath {
			t.Fatalf("valid and not a socket path: %q", full)
		}
	}
}
