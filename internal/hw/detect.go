package hw

// Options steers Detect and DetectInstance. The zero value looks at
// everything on this host and masks nothing.
type Options struct {
	// Mask takes features away; see ParseMask for the form.
	Mask string
	// InstanceType is used instead of asking the instance metadata service.
	InstanceType string
	// NoIMDS keeps DetectInstance off the network.
	NoIMDS bool
	// NoGPU keeps Detect from touching the GPU driver.
	NoGPU bool
}
