// Package migrate makes of an installation of the SageMaker Edge Manager agent one of picketd: it reads the agent's configuration,
// its unit of systemd and its models, and says which files would have to be written where, and what has no equivalent.
//
// Nothing of the old installation is changed, so that going back is starting the old unit. What is read belongs to the host's
// operator, but was written by others: files are bounded, models are read below their own folder, and what becomes of them is plain
// files with digests. No signature of the old service can be checked, so a model is trusted as what it is at this moment: its files
// are packed as that service packed them, and the digest of the archive is named in the configuration.
package migrate
