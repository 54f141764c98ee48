// Package capture keeps what models were asked and what they answered, for whoever
// watches and retrains them. A Tap, in the engine, chooses requests and never makes
// one wait; what it has chosen becomes Records in a spool (internal/capture/spool)
// on disk, from which they leave the host as the configuration allows.
package capture
