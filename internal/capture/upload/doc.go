// Package upload takes captured records from the spool to where the configuration
// sends them: a bucket of S3, or a directory.
//
// An Uploader reads sealed segments in order. What the residency policy lets through is
// written in the configured formats, entered into the audit log, and sent under a name
// that a crash cannot change; a segment is acknowledged to the spool when everything of
// it is where it should be. It tries for as long as it takes: nothing is given up
// because of a network, and nothing is lost or sent twice because of a crash.
//
// What was sent before a crash, and may or may not have arrived, is in the audit log.
// A new Uploader asks the destination for it first, so that it also finds what was sent
// under another policy, format or version of the program.
package upload
