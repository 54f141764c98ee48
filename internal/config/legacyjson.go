package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/picket-ml/picket/internal/cloud"
)

// parseLegacy reads an Edge Manager file into config. An error means that it is
// not such a file; everything else that is wrong with it goes to Warnings and
// leaves the default in place.
func parseLegacy(data []byte, config *Config) error {
	entries, err := flatObject(data)
	if err != nil {
		return err
	}
	r := &legacyReader{config: config, legacy: defaultLegacy()}
	known := r.keys()
	names := make([]string, 0, len(known))
	for name := range known {
		names = append(names, name)
	}
	slices.Sort(names)

	// In the order of the file, except that an older name must not undo a newer.
	given := map[string]bool{}
	recognised := 0
	for _, entry := range entries {
		set, ok := known[entry.key]
		if !ok {
			r.unknown(entry.key, names)
			continue
		}
		recognised++
		if given[entry.key] {
			r.warn(entry.key, "is given more than once, the last one counts")
		}
		given[entry.key] = true
		if entry.key == keyDeviceUUID && r.legacy.DeviceName != "" {
			continue
		}
		if err := set(entry.value); err != nil {
			r.warn(entry.key, "%v; it is ignored", err)
		}
	}
	if len(entries) > 0 && recognised == 0 {
		return errors.New("no key of an Edge Manager configuration in it: a JSON file must be one, name Picket's own configuration *.yaml")
	}
	r.crossCheck(given)
	config.AWS = r.aws()
	config.Legacy = r.legacy
	config.Warnings = r.warnings
	return nil
}

const (
	legacyPrefix   = "sagemaker_edge_"
	corePrefix     = legacyPrefix + "core_"
	capturePrefix  = corePrefix + "capture_data_"
	providerPrefix = legacyPrefix + "provider_"
	awsPrefix      = providerPrefix + "aws_"

	keyDeviceName = corePrefix + "device_name"
	// keyDeviceUUID is what keyDeviceName was called until 2021.
	keyDeviceUUID = corePrefix + "device_uuid"
	keyFleetName  = corePrefix + "device_fleet_name"
	keyRegion     = corePrefix + "region"
	keyBatchSize  = capturePrefix + "batch_size"
	keyDiskPath   = capturePrefix + "disk_path"
	keyBucket     = providerPrefix + "s3_bucket_name"
	keyEndpoint   = awsPrefix + "iot_cred_endpoint"
)

// legacyReader applies the entries of one file.
type legacyReader struct {
	config   *Config
	legacy   *Legacy
	warnings []string
}

// maxWarnings keeps a file of rubbish from filling the log, or the screen.
const maxWarnings = 100

func (r *legacyReader) warn(key, format string, args ...any) {
	if len(r.warnings) == maxWarnings {
		r.warnings = append(r.warnings, "the configuration has further mistakes, which are not listed")
	}
	if len(r.warnings) > maxWarnings {
		return
	}
	r.warnings = append(r.warnings, key+" "+fmt.Sprintf(format, args...))
}

func (r *legacyReader) unknown(key string, names []string) {
	if len(r.warnings) > maxWarnings {
		// Not shown any more, so not worth the search either.
		return
	}
	if guess := nearest(key, names); guess != "" {
		r.warn(quote(key), "is not a known key and is ignored, did you mean %s?", guess)
		return
	}
	r.warn(quote(key), "is not a known key and is ignored")
}

// setter stores one value or says in a sentence's end why not.
type setter func(json.RawMessage) error

func (r *legacyReader) keys() map[string]setter {
	l := r.legacy
	device := text(&l.DeviceName, 63)
	return map[string]setter{
		keyDeviceName:                                    device,
		keyDeviceUUID:                                    device,
		keyFleetName:                                     text(&l.FleetName, 1023),
		keyRegion:                                        text(&l.Region, 15),
		corePrefix + "root_certs_path":                   text(&l.RootCertsPath, 1023),
		corePrefix + "folder_prefix":                     text(&l.Capture.FolderPrefix, 1023),
		capturePrefix + "destination":                    oneOf(&l.Capture.Destination, "Cloud", "Disk"),
		keyDiskPath:                                      text(&l.Capture.DiskPath, 1023),
		capturePrefix + "buffer_size":                    number(&l.Capture.BufferSize, 1, 1<<20),
		keyBatchSize:                                     number(&l.Capture.BatchSize, 1, 1<<20),
		capturePrefix + "push_period_seconds":            period(&l.Capture.PushPeriod, time.Second),
		capturePrefix + "base64_embed_limit":             number(&l.Capture.EmbedLimit, 0, maxEmbedLimit),
		capturePrefix + "periodic_upload":                boolean(&l.Capture.PeriodicUpload),
		capturePrefix + "periodic_upload_period_seconds": period(&l.Capture.UploadPeriod, time.Second),
		providerPrefix + "provider":                      oneOf(&l.Provider.Name, "Aws", "None", "Custom"),
		awsPrefix + "ca_cert_file":                       text(&l.Provider.CACertFile, 1023),
		awsPrefix + "cert_file":                          text(&l.Provider.CertFile, 1023),
		awsPrefix + "cert_pk_file":                       text(&l.Provider.KeyFile, 1023),
		keyEndpoint:                                      text(&l.Provider.CredentialEndpoint, 1023),
		keyBucket:                                        text(&l.Provider.Bucket, 1023),
		legacyPrefix + "log_verbose":                     r.verbose,
		legacyPrefix + "telemetry_libsystemd_path":       text(&l.TelemetryLibsystemd, 1023),
		legacyPrefix + "db_module_path":                  text(&l.DBModule, 1023),
		legacyPrefix + "local_data_root_path":            text(&l.LocalDataRoot, 1023),
		legacyPrefix + "deployment_lib_path":             text(&l.DeploymentLib, 1023),
		legacyPrefix + "model_deployment_poll_interval":  period(&l.DeploymentPoll, time.Minute),
		legacyPrefix + "dlr_backend_options":             text(&l.DLRBackendOptions, 4096),
	}
}

func (r *legacyReader) verbose(raw json.RawMessage) error {
	var on bool
	if err := boolean(&on)(raw); err != nil {
		return err
	}
	r.config.Log.Level = slog.LevelInfo
	if on {
		r.config.Log.Level = slog.LevelDebug
	}
	return nil
}

// crossCheck warns about values that are fine alone and not together.
func (r *legacyReader) crossCheck(given map[string]bool) {
	l := r.legacy
	if l.DeviceName == "" {
		r.warn(keyDeviceName, "is missing: captured data will not say which device it is from")
	}
	if l.FleetName == "" {
		r.warn(keyFleetName, "is missing: captured data will not say which fleet it is from")
	}
	if l.Capture.BatchSize >= l.Capture.BufferSize {
		batch := max(1, l.Capture.BufferSize/2)
		r.warn(keyBatchSize, "is %d, which is not below the buffer size %d; %d is used", l.Capture.BatchSize, l.Capture.BufferSize, batch)
		l.Capture.BatchSize = batch
	}
	if l.Capture.Destination == "Cloud" || l.Capture.PeriodicUpload {
		r.crossCheckCloud(given)
	}
}

func (r *legacyReader) crossCheckCloud(given map[string]bool) {
	l := r.legacy
	if l.Region == "" {
		r.warn(keyRegion, "is missing: captured data cannot be uploaded")
	}
	switch bucket := l.Provider.Bucket; {
	case bucket == "":
		r.warn(keyBucket, "is missing: captured data cannot be uploaded")
	case !strings.Contains(bucket, "sagemaker"):
		r.warn(keyBucket, "is %s: the usual device policies allow only names that contain \"sagemaker\"", quote(bucket))
	}
	if l.Provider.Name != "Aws" {
		return
	}
	for _, name := range []string{"ca_cert_file", "cert_file", "cert_pk_file", "iot_cred_endpoint"} {
		if key := awsPrefix + name; !given[key] {
			r.warn(key, "is missing: no credentials can be had for uploading")
		}
	}
	if endpoint := l.Provider.CredentialEndpoint; endpoint != "" {
		if u, err := url.Parse(endpoint); err != nil || u.Scheme != "https" || u.Host == "" {
			r.warn(keyEndpoint, "is %s, which is not an https URL: no credentials can be had for uploading", quote(endpoint))
		}
	}
}

// aws is how the old agent reached AWS, as the section aws says it. What is not complete, or cannot be right, is left
// out: a host that reaches nothing still answers.
func (r *legacyReader) aws() cloud.Options {
	l, p := r.legacy, r.legacy.Provider
	o := cloud.Options{Region: l.Region}
	if p.Name == "Aws" && p.CredentialEndpoint != "" {
		o.RoleAlias = cloud.RoleAlias{URL: p.CredentialEndpoint, Thing: l.DeviceName, Certificate: p.CertFile, Key: p.KeyFile, CA: p.CACertFile}
	}
	for _, f := range []struct{ name, file string }{
		{"cert_file", o.RoleAlias.Certificate}, {"cert_pk_file", o.RoleAlias.Key}, {"ca_cert_file", o.RoleAlias.CA},
	} {
		if f.file != "" && !filepath.IsAbs(f.file) {
			r.warn(awsPrefix+f.name, "is %s, which is no absolute path: no credentials can be had from AWS IoT", quote(f.file))
			o.RoleAlias = cloud.RoleAlias{}
		}
	}
	o.Check(func(key, _ string) {
		if key == "region" {
			o.Region = ""
		} else {
			o.RoleAlias = cloud.RoleAlias{}
		}
	})
	return o
}

// legacyEntry is one key of the object, in the order of the file.
type legacyEntry struct {
	key   string
	value json.RawMessage
}

// flatObject splits a JSON object into its entries without interpreting the
// values. Key by key, because encoding/json itself hides duplicate keys.
func flatObject(data []byte) ([]legacyEntry, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return nil, notJSON(data, decoder, err, "it must be one object in braces")
	}
	var entries []legacyEntry
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return nil, notJSON(data, decoder, err, "")
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, notJSON(data, decoder, err, "")
		}
		entries = append(entries, legacyEntry{key.(string), value})
	}
	if _, err := decoder.Token(); err != nil {
		return nil, notJSON(data, decoder, err, "")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, notJSON(data, decoder, nil, "something follows the object")
	}
	return entries, nil
}

func notJSON(data []byte, decoder *json.Decoder, err error, otherwise string) error {
	offset := decoder.InputOffset()
	reason := otherwise
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		offset, reason = syntax.Offset, syntax.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		offset, reason = int64(len(data)), "the file ends too early"
	case err != nil:
		reason = err.Error()
	}
	line := 1 + bytes.Count(data[:min(max(offset, 0), int64(len(data)))], []byte("\n"))
	return fmt.Errorf("line %d: not JSON: %s", line, reason)
}

// plain returns a scalar as text: Greengrass writes numbers and booleans as
// strings, hand-written files do not.
func plain(raw json.RawMessage) (string, error) {
	var value any
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		return "", errors.New("is not a value")
	}
	switch value := value.(type) {
	case string:
		return value, nil
	case json.Number:
		return value.String(), nil
	case bool:
		return strconv.FormatBool(value), nil
	case nil:
		return "", errors.New("is null")
	}
	return "", errors.New("is not a single value")
}

func text(to *string, longest int) setter {
	return func(raw json.RawMessage) error {
		value, err := plain(raw)
		if err != nil {
			return err
		}
		if len(value) > longest {
			return fmt.Errorf("is longer than %d bytes", longest)
		}
		if strings.ContainsRune(value, 0) {
			return errors.New("contains a zero byte")
		}
		*to = value
		return nil
	}
}

func oneOf(to *string, allowed ...string) setter {
	return func(raw json.RawMessage) error {
		value, err := plain(raw)
		if err != nil {
			return err
		}
		for _, a := range allowed {
			if strings.EqualFold(a, value) {
				*to = a
				return nil
			}
		}
		return fmt.Errorf("is %s and must be one of %s", quote(value), strings.Join(allowed, ", "))
	}
}

func number(to *int, low, high int) setter {
	return func(raw json.RawMessage) error {
		value, err := plain(raw)
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(value)
		if err != nil {
			return fmt.Errorf("is %s and must be a whole number", quote(value))
		}
		if n < low || n > high {
			return fmt.Errorf("is %d and must be from %d to %d", n, low, high)
		}
		*to = n
		return nil
	}
}

func period(to *time.Duration, unit time.Duration) setter {
	return func(raw json.RawMessage) error {
		var n int
		if err := number(&n, 1, int(min(math.MaxInt64/unit, math.MaxInt32)))(raw); err != nil {
			return err
		}
		*to = time.Duration(n) * unit
		return nil
	}
}

func boolean(to *bool) setter {
	return func(raw json.RawMessage) error {
		value, err := plain(raw)
		if err != nil {
			return err
		}
		switch strings.ToLower(value) {
		case "true":
			*to = true
		case "false":
			*to = false
		default:
			return fmt.Errorf("is %s and must be true or false", quote(value))
		}
		return nil
	}
}
