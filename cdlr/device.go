package cdlr

// Device types of DLPack, as CreateDLRModel takes them and GetDLRDeviceType returns them.
const (
	CPU    = 1
	CUDA   = 2
	OpenCL = 4
	// Extension is what libdlr makes of any other TargetDeviceType in compiled.meta.
	Extension = 12
)
