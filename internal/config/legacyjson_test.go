package config

import (
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/picket-ml/picket/internal/cloud"
)

const fullLegacy = `{
  "sagemaker_edge_core_device_name": "host-1",
  "sagemaker_edge_core_device_fleet_name": "fleet",
  "sagemaker_edge_core_region": "us-west-2",
  "sagemaker_edge_core_root_certs_path": "/certs",
  "sagemaker_edge_core_folder_prefix": "prefix",
  "sagemaker_edge_core_capture_data_destination": "Cloud",
  "sagemaker_edge_core_capture_data_disk_path": "/capture",
  "sagemaker_edge_core_capture_data_buffer_size": 40,
  "sagemaker_edge_core_capture_data_batch_size": "20",
  "sagemaker_edge_core_capture_data_push_period_seconds": 6,
  "sagemaker_edge_core_capture_data_base64_embed_limit": 2,
  "sagemaker_edge_core_capture_data_periodic_upload": "true",
  "sagemaker_edge_core_capture_data_periodic_upload_period_seconds": 9,
  "sagemaker_edge_provider_provider": "Aws",
  "sagemaker_edge_provider_aws_ca_cert_file": "/ca.pem",
  "sagemaker_edge_provider_aws_cert_file": "/cert.pem",
  "sagemaker_edge_provider_aws_cert_pk_file": "/key.pem",
  "sagemaker_edge_provider_aws_iot_cred_endpoint": "https://x.credentials.iot.us-west-2.amazonaws.com/role-aliases/a/credentials",
  "sagemaker_edge_provider_s3_bucket_name": "a-sagemaker-bucket",
  "sagemaker_edge_log_verbose": true,
  "sagemaker_edge_telemetry_libsystemd_path": "/lib/libsystemd.so.0",
  "sagemaker_edge_db_module_path": "/lib/db.so",
  "sagemaker_edge_local_data_root_path": "/data",
  "sagemaker_edge_deployment_lib_path": "/lib/deployment.so",
  "sagemaker_edge_model_deployment_poll_interval": 60,
  "sagemaker_edge_dlr_backend_options": "TVM_TENSORRT_CACHE_DIR=/cache"
}`

func TestLegacyEveryKey(t *testing.T) {
	got, err := Resolve(Flags{Config: write(t, "sagemaker_edge_config.json", fullLegacy)}, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	want := &Legacy{
		DeviceName: "host-1", FleetName: "fleet", Region: "us-west-2", RootCertsPath: "/certs",
		Capture: LegacyCapture{
			Destination: "Cloud", FolderPrefix: "prefix", DiskPath: "/capture", BufferSize: 40, BatchSize: 20,
			PushPeriod: 6 * time.Second, EmbedLimit: 2, PeriodicUpload: true, UploadPeriod: 9 * time.Second,
		},
		Provider: LegacyProvider{
			Name: "Aws", CACertFile: "/ca.pem", CertFile: "/cert.pem", KeyFile: "/key.pem", Bucket: "a-sagemaker-bucket",
			CredentialEndpoint: "https://x.credentials.iot.us-west-2.amazonaws.com/role-aliases/a/credentials",
		},
		DLRBackendOptions: "TVM_TENSORRT_CACHE_DIR=/cache", TelemetryLibsystemd: "/lib/libsystemd.so.0", DBModule: "/lib/db.so",
		LocalDataRoot: "/data", DeploymentLib: "/lib/deployment.so", DeploymentPoll: time.Hour,
	}
	if !reflect.DeepEqual(got.Legacy, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got.Legacy, want)
	}
	// The file is complete; the command line is not.
	if len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "give --state") || got.Log.Level != slog.LevelDebug {
		t.Errorf("level %v, warnings %q", got.Log.Level, got.Warnings)
	}
	wantAWS := cloud.Options{Region: "us-west-2", RoleAlias: cloud.RoleAlias{
		URL: want.Provider.CredentialEndpoint, Thing: "host-1", Certificate: "/cert.pem", Key: "/key.pem", CA: "/ca.pem",
	}}
	if !reflect.DeepEqual(got.AWS, wantAWS) {
		t.Errorf("AWS is reached by\n%+v\nwant\n%+v", got.AWS, wantAWS)
	}
	// Nothing about serving comes from such a file.
	got.AWS, got.Warnings = cloud.Options{}, nil
	got.Legacy, got.Log.Level = nil, slog.LevelInfo
	defaults, err := Resolve(Flags{}, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, defaults) {
		t.Errorf("serving settings\n%+v\nwant the defaults\n%+v", got, defaults)
	}
}

// complete is a prefix that gives no warnings by itself.
const complete = `{"sagemaker_edge_core_device_name": "d", "sagemaker_edge_core_device_fleet_name": "f"`

func TestLegacyWarnings(t *testing.T) {
	for _, c := range []struct{ json, want string }{
		{complete + `}`, ``},
		{`{"sagemaker_edge_core_device_uuid": "d", "sagemaker_edge_core_device_fleet_name": "f"}`, ``},
		{complete + `, "sagemaker_edge_core_regoin": "x"}`, `"sagemaker_edge_core_regoin" is not a known key and is ignored, did you mean sagemaker_edge_core_region?`},
		{complete + `, "colour": "x"}`, `"colour" is not a known key and is ignored`},
		{complete + `, "sagemaker_edge_core_region": "far-too-long-a-region"}`, `sagemaker_edge_core_region is longer than 15 bytes; it is ignored`},
		{complete + `, "sagemaker_edge_core_region": null}`, `sagemaker_edge_core_region is null; it is ignored`},
		{complete + `, "sagemaker_edge_core_region": ["x"]}`, `sagemaker_edge_core_region is not a single value; it is ignored`},
		{complete + `, "sagemaker_edge_log_verbose": "loud"}`, `sagemaker_edge_log_verbose is "loud" and must be true or false; it is ignored`},
		{complete + `, "sagemaker_edge_core_capture_data_destination": "Moon"}`, `sagemaker_edge_core_capture_data_destination is "Moon" and must be one of Cloud, Disk; it is ignored`},
		{complete + `, "sagemaker_edge_core_capture_data_base64_embed_limit": 4000}`, `sagemaker_edge_core_capture_data_base64_embed_limit is 4000 and must be from 0 to 3072; it is ignored`},
		{complete + `, "sagemaker_edge_core_capture_data_buffer_size": 10}`, `sagemaker_edge_core_capture_data_batch_size is 10, which is not below the buffer size 10; 5 is used`},
		{complete + `, "sagemaker_edge_core_capture_data_push_period_seconds": 1e30}`, `sagemaker_edge_core_capture_data_push_period_seconds is "1e30" and must be a whole number; it is ignored`},
		{complete + `, "sagemaker_edge_core_region": "a", "sagemaker_edge_core_region": "b"}`, `sagemaker_edge_core_region is given more than once, the last one counts`},
		{`{"sagemaker_edge_core_device_fleet_name": "f"}`, `sagemaker_edge_core_device_name is missing: captured data will not say which device it is from`},
	} {
		got, err := Load(write(t, "c.json", c.json))
		if err != nil {
			t.Errorf("%s: %v", c.json, err)
			continue
		}
		if all := strings.Join(got.Warnings, "\n"); all != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.json, all, c.want)
		}
	}
}

func TestLegacyNetworkMistakesNeverStopTheDaemon(t *testing.T) {
	got, err := Resolve(Flags{Config: write(t, "c.json", complete+`,
		"sagemaker_edge_core_capture_data_destination": "Cloud",
		"sagemaker_edge_provider_aws_iot_cred_endpoint": "http:/nowhere",
		"sagemaker_edge_provider_s3_bucket_name": "bucket"}`)}, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(got.Warnings, "\n")
	for _, want := range []string{
		"sagemaker_edge_core_region is missing", `s3_bucket_name is "bucket"`, "aws_ca_cert_file is missing", "aws_cert_file is missing",
		"aws_cert_pk_file is missing", "is not an https URL",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no warning that %s in:\n%s", want, all)
		}
	}
}

func TestLegacyDeviceNameWinsOverItsOlderKey(t *testing.T) {
	for _, text := range []string{
		`{"sagemaker_edge_core_device_name": "new", "sagemaker_edge_core_device_uuid": "old"}`,
		`{"sagemaker_edge_core_device_uuid": "old", "sagemaker_edge_core_device_name": "new"}`,
	} {
		got, err := Load(write(t, "c.json", text))
		if err != nil || got.Legacy.DeviceName != "new" {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}

func TestNotALegacyFile(t *testing.T) {
	for _, c := range []struct{ json, want string }{
		{``, `line 1: not JSON: the file ends too early`},
		{`[]`, `line 1: not JSON: it must be one object in braces`},
		{"{\n\"a\": 1,\n", `line 3: not JSON: the file ends too early`},
		{"{\n\"a\": x}", `line 2: not JSON: invalid character 'x' looking for beginning of value`},
		{`{} {}`, `line 1: not JSON: something follows the object`},
		{`{"model": 1}`, `no key of an Edge Manager configuration in it: a JSON file must be one, name Picket's own configuration *.yaml`},
	} {
		path := write(t, "c.json", c.json)
		got, err := Load(path)
		if err == nil || got != nil {
			t.Errorf("%q: accepted", c.json)
		} else if err.Error() != path+": "+c.want {
			t.Errorf("%q:\n got %s\nwant %s", c.json, err, c.want)
		}
	}
}

func TestFormatByNameThenByContent(t *testing.T) {
	for name, legacy := range map[string]bool{"c.json": true, "c.JSON": true, "c": true, "c.conf": true} {
		got, err := Load(write(t, name, complete+"}"))
		if err != nil || (got.Legacy != nil) != legacy {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	got, err := Load(write(t, "c.yaml", `{"log": {"level": "warn"}}`))
	if err != nil || got.Legacy != nil || got.Log.Level != slog.LevelWarn {
		t.Errorf("JSON in a YAML file: %+v, %v", got, err)
	}
}

// A byte order mark, as editors on Windows write it, is no part of the text.
func TestByteOrderMark(t *testing.T) {
	for name, text := range map[string]string{
		"agent.json": `{"sagemaker_edge_core_device_name": "host-1"}`,
		"agent":      `{"sagemaker_edge_core_device_name": "host-1"}`,
		"c.yaml":     "unsigned: true\n",
	} {
		c, _, err := parse(name, []byte("\ufeff"+text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if legacy := c.Legacy != nil && c.Legacy.DeviceName == "host-1"; !legacy && !c.Unsigned {
			t.Errorf("%s: nothing of it was read: %+v", name, c)
		}
	}
}

func TestWarningsAreBounded(t *testing.T) {
	var text strings.Builder
	text.WriteString(complete)
	for range 10_000 {
		text.WriteString(`, "` + strings.Repeat("k", 80) + `": 1`)
	}
	text.WriteString("}")
	got, err := Load(write(t, "c.json", text.String()))
	if err != nil || len(got.Warnings) != maxWarnings+1 {
		t.Errorf("%d warnings, %v", len(got.Warnings), err)
	}
}
