// Package pipeline makes a signed package of a dataset: it trains a model, compiles it, has it answer, packs it, signs the
// package and puts it where hosts find it. One YAML file says how (example.yaml). SageMaker trains and compiles, or this
// machine does.
//
// # Steps
//
// A pipeline is a row of steps. Each is made of inputs: files, settings, and what the steps before it made. Their digest is
// the step's key. When a step has ended, its key and what it made are written to disk before the next one begins; a step whose
// key is the one on record, and whose files are still those on record, is not done again. Nothing else decides: no dates, no
// flags. So a run that was interrupted anywhere, by Ctrl-C, kill -9 or a power failure, is continued by the next, and a run
// after a change does what the change touches.
//
// # Jobs
//
// The name of a job at SageMaker has in it the digest of the request that starts it and the number of the try. It is put on
// record before the request is sent. So whoever comes back and does not know whether the job was started asks for it by its
// name, and a second one is never started for the same work: not by a retried request, not by another machine with the same
// file and the same data.
package pipeline
