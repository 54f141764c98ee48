// Package dl opens native shared libraries at run time, so that one binary serves hosts with and without them
// and a missing or unsuitable library is a sentence instead of a failed start.
//
// Loading a library is running its code, and a damaged one takes the process down inside the loader. So a library
// that comes from outside goes through three steps, in this order:
//
//  1. [OpenFile] copies the already opened file into a sealed, anonymous memory file. From here on nobody can
//     change it, truncate it or swap it for another: what is checked is what runs.
//  2. The checks given to OpenFile read that copy: a signature, and [Inspect] with [Object.CheckHost] and
//     [Object.Require], which say what the loader would say, only earlier and in words.
//  3. dlopen maps the copy.
//
// A library that has passed has tables that the loader can follow. Nothing can tell whether what they lead to is the
// code that was meant, nor whether the code is undamaged: a signature does that.
//
// Libraries that belong to the host (libdlr, the CUDA driver) are trusted like any other system file: [Open].
//
// Without cgo, or on a system that is not Linux, Inspect works and everything that would load fails with the
// reason that [Probe] gives.
package dl
