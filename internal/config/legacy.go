package config

import "time"

// Legacy is what an Edge Manager configuration says about the cloud side: who
// this device is and where captured data goes. Inference uses none of it. Absent
// and unusable values have the defaults that the agent's documentation or, where
// that is silent, its Greengrass component gave them.
type Legacy struct {
	DeviceName string
	FleetName  string
	Region     string
	// RootCertsPath is the directory with the agent's own root certificates.
	RootCertsPath string
	Capture       LegacyCapture
	Provider      LegacyProvider
	// DLRBackendOptions are "NAME=VALUE" pairs separated by semicolons, unparsed.
	DLRBackendOptions string
	// TelemetryLibsystemd, DBModule, LocalDataRoot and DeploymentLib are paths of
	// parts of the old agent. Kept to be shown; nothing loads them.
	TelemetryLibsystemd string
	DBModule            string
	LocalDataRoot       string
	DeploymentLib       string
	// DeploymentPoll is how often the old agent asked for deployments.
	DeploymentPoll time.Duration
}

// LegacyCapture is how captured data was to be kept.
type LegacyCapture struct {
	// Destination is "Cloud" or "Disk".
	Destination string
	// FolderPrefix is the first element of object keys and of paths on disk.
	FolderPrefix string
	DiskPath     string
	// BufferSize is how many captures may wait; BatchSize of them, or PushPeriod,
	// start a flush.
	BufferSize int
	BatchSize  int
	PushPeriod time.Duration
	// EmbedLimit is the largest tensor, in bytes, written into the record itself.
	EmbedLimit int
	// PeriodicUpload sends the files on disk every UploadPeriod.
	PeriodicUpload bool
	UploadPeriod   time.Duration
}

// LegacyProvider is how the agent reached the cloud.
type LegacyProvider struct {
	// Name is "Aws", "None" or "Custom".
	Name string
	// CACertFile, CertFile and KeyFile are PEM files of the device.
	CACertFile string
	CertFile   string
	KeyFile    string
	// CredentialEndpoint is the URL that trades the certificate for credentials.
	CredentialEndpoint string
	Bucket             string
}

func defaultLegacy() *Legacy {
	return &Legacy{
		Capture: LegacyCapture{
			Destination: "Disk",
			BufferSize:  30, BatchSize: 10, PushPeriod: 4 * time.Second,
			EmbedLimit: maxEmbedLimit, UploadPeriod: 8 * time.Second,
		},
		Provider:       LegacyProvider{Name: "Aws"},
		DeploymentPoll: 24 * time.Hour,
	}
}

// maxEmbedLimit is the agent's upper bound of what a record may hold itself.
const maxEmbedLimit = 3072
