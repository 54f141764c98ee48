// Package config is everything the daemon can be told before it starts.
//
// A setting has four possible sources, and a later one wins: the default, the
// file, the environment, the command line. Resolve applies them in that order
// and validates the outcome, so that the rest of the daemon sees one complete
// Config and never asks where a value came from.
//
// Two file formats are read: Picket's own YAML, in which anything unknown or
// wrong is an error with its line, and the flat JSON of the Edge Manager agent,
// in which nothing but unreadable JSON is: an old file must not stop inference,
// so its mistakes become Warnings for the log.
package config
