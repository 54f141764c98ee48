package hw

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"
)

// The environment variables OptionsFromEnv reads, here and nowhere else.
const (
	EnvCPUMask      = "PICKET_CPU_MASK"      // features or levels to take away, see ParseMask
	EnvInstanceType = "PICKET_INSTANCE_TYPE" // "m5.4xlarge": do not ask the metadata service
	EnvIMDS         = "PICKET_IMDS"          // "off": never ask the metadata service
	// EnvIMDSEndpoint and EnvIMDSDisabled are those of the AWS SDKs.
	EnvIMDSEndpoint = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
	EnvIMDSDisabled = "AWS_EC2_METADATA_DISABLED"
)

// DefaultGPUTimeout bounds the wait for the GPU driver. A driver that has to
// wake the GPUs (no persistence mode) takes a second or two.
const DefaultGPUTimeout = 5 * time.Second

// Options steers Detect and DetectInstance. The zero value looks at
// everything on this host and masks nothing.
type Options struct {
	// Mask takes features away; see ParseMask for the form. One that does not
	// parse is not applied and CPU.MaskReason says so: a caller that would
	// rather stop checks it first with ParseMask.
	Mask string
	// InstanceType is used instead of asking the instance metadata service.
	InstanceType string
	// NoIMDS keeps DetectInstance off the network.
	NoIMDS bool
	// IMDSEndpoint is where the metadata service answers; empty is its
	// link-local address.
	IMDSEndpoint string
	// NoGPU keeps Detect from touching the GPU driver.
	NoGPU bool
	// GPUTimeout bounds the wait for the GPU driver; 0 is DefaultGPUTimeout.
	GPUTimeout time.Duration
	// GPUCommand is the path and arguments of a program that prints what
	// WriteGPUReport writes. A driver library that crashes then ends that
	// program and not this one, which is why the daemon sets it to itself.
	// Empty asks NVML in this process.
	GPUCommand []string
}

// OptionsFromEnv reads the environment through getenv (os.Getenv, or a map in
// tests). The error names every variable whose value means nothing.
func OptionsFromEnv(getenv func(string) string) (Options, error) {
	opts := Options{
		Mask:         getenv(EnvCPUMask),
		InstanceType: getenv(EnvInstanceType),
		IMDSEndpoint: getenv(EnvIMDSEndpoint),
		NoIMDS:       strings.EqualFold(getenv(EnvIMDSDisabled), "true"),
	}
	var errs []error
	if _, err := ParseMask(opts.Mask, runtime.GOARCH); err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", EnvCPUMask, err))
	}
	if t := opts.InstanceType; t != "" && !validInstanceType(t) {
		errs = append(errs, fmt.Errorf("%s: %q is not an instance type; write it like m5.4xlarge", EnvInstanceType, t))
	}
	switch v := getenv(EnvIMDS); strings.ToLower(v) {
	case "off":
		opts.NoIMDS = true
	case "", "on":
	default:
		errs = append(errs, fmt.Errorf("%s: %q means nothing; use on or off", EnvIMDS, v))
	}
	if len(errs) > 0 {
		return Options{}, errors.Join(errs...)
	}
	return opts, nil
}
