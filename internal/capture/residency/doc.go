// Package residency decides what may leave the host and keeps the record of what
// did.
//
// A Policy comes from the configuration. It says for each model whether captured
// samples may leave, what becomes of each feature on the way (it goes as it is, is
// left out, hashed with a key, put into a bucket or truncated), where they may go,
// and how many observations a bucket of a published histogram must have. What it
// does not mention stays.
//
// An Audit is the append-only log of every object that left: a line is forced to
// disk before the first byte of the object goes, and each line carries the digest
// of the one before, so that a line that was changed, taken out or put in shows.
package residency
