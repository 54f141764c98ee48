package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func resolveLegacy(t *testing.T, text, state string) *Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sagemaker_edge_config.json")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Resolve(Flags{Config: file, StateDir: state}, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const legacyCloud = `{"sagemaker_edge_core_device_name":"dev","sagemaker_edge_core_device_fleet_name":"fleet","sagemaker_edge_core_region":"us-west-2",
"sagemaker_edge_core_capture_data_destination":"Cloud","sagemaker_edge_core_folder_prefix":"a/b/","sagemaker_edge_provider_s3_bucket_name":"sagemaker-x",
"sagemaker_edge_core_capture_data_push_period_seconds":"7","sagemaker_edge_core_capture_data_base64_embed_limit":"20"}`

func TestLegacyCapture(t *testing.T) {
	c := resolveLegacy(t, legacyCloud, "/var/lib/picket")
	k := c.Capture
	if !k.Enabled || k.Destination != (Destination{Bucket: "sagemaker-x", Prefix: "a/b"}) || k.SegmentAge != 7*time.Second || k.Upload.Compression != "none" {
		t.Errorf("%+v", k)
	}
	if f := k.Format; len(f.Kinds) != 1 || f.Kinds[0] != "edge" || f.Fleet != "fleet" || f.Device != "dev" || f.EmbedBytes != 20 {
		t.Errorf("%+v", f)
	}
	if r := k.Residency; len(r.Destinations) != 1 || r.Destinations[0] != (AllowedDestination{Bucket: "sagemaker-x", Region: "us-west-2"}) || !r.Models[0].Samples {
		t.Errorf("%+v", r)
	}
	if c := resolveLegacy(t, legacyCloud, ""); c.Capture.Enabled || !strings.Contains(strings.Join(c.Warnings, "\n"), "give --state") {
		t.Errorf("without a state directory: %v, %q", c.Capture.Enabled, c.Warnings)
	}
	disk := resolveLegacy(t, `{"sagemaker_edge_core_device_name":"dev","sagemaker_edge_core_capture_data_disk_path":"/srv/capture/"}`, "").Capture
	if !disk.Enabled || disk.Destination.Directory != "/srv/capture" || disk.Dir != "/srv/capture/.picket/capture" || disk.Residency.Destinations[0].Directory != "/srv/capture" {
		t.Errorf("%+v", disk)
	}
	for name, text := range map[string]string{
		"nothing":         `{"sagemaker_edge_core_device_name":"dev"}`,
		"a relative path": `{"sagemaker_edge_core_capture_data_disk_path":"capture"}`,
		"no bucket":       `{"sagemaker_edge_core_capture_data_destination":"Cloud","sagemaker_edge_core_region":"us-west-2"}`,
		"no region":       `{"sagemaker_edge_core_capture_data_destination":"Cloud","sagemaker_edge_provider_s3_bucket_name":"sagemaker"}`,
		"no provider":     `{"sagemaker_edge_core_capture_data_destination":"Cloud","sagemaker_edge_provider_s3_bucket_name":"sagemaker","sagemaker_edge_core_region":"us-west-2","sagemaker_edge_provider_provider":"None"}`,
	} {
		if c := resolveLegacy(t, text, "/var/lib/picket"); c.Capture.Enabled {
			t.Errorf("%s: something is captured", name)
		}
	}
}

func TestLeaving(t *testing.T) {
	for want, text := range map[string]string{
		"capture.destination: has both":                       "capture: {destination: {bucket: b, directory: /x}}",
		"capture.destination.account: is for buckets":         "capture: {destination: {account: '1'}}",
		"capture.destination.prefix: \"a/../b\"":              "capture: {destination: {prefix: a/../b}}",
		"capture.residency.audit: is needed, or state_dir":    "capture: {destination: {bucket: bank}}",
		"capture.residency.key: \"salt\" must be an absolute": "capture: {residency: {key: salt}}",
		"capture.residency.k: -1 is outside":                  "capture: {residency: {k: -1}}",
		"capture.format.kinds: is empty":                      "capture: {format: {kinds: []}}",
		"capture.format.kinds[0]: \"csv\" is none of":         "capture: {format: {kinds: [csv]}}",
		"capture.format.models[0].kinds[1]: \"edge\" is list": "capture: {format: {models: [{model: a, kinds: [edge, edge]}]}}",
		"capture.format.rows: \"xml\" is neither":             "capture: {format: {rows: xml}}",
		"capture.format.device: \"a/b\" must be one line":     "capture: {format: {device: a/b}}",
		"capture.upload.compression: \"lz4\" is none of":      "capture: {upload: {compression: lz4}}",
		"capture.upload.object_bytes: 1B is outside":          "capture: {upload: {object_bytes: 1B}}",
		"capture.upload.parallel: 0 is outside":               "capture: {upload: {parallel: 0}}",
		"capture.upload.bandwidth: is":                        "capture: {upload: {bandwidth: 1kbit/s}}",
	} {
		file := filepath.Join(t.TempDir(), "picketd.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want %q, got %v", text, want, err)
		}
	}
}
