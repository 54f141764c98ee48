// Package packaging writes and reads packages: one file with everything that a host needs to run a model, described
// byte by byte in docs/formats/package.md.
//
// Nothing that is read here is believed. [Open] looks at the frame, the manifest and the signature of an archive, which
// are its first two entries, and reads no further; whoever decides about trust does so then. [Archive.Unpack] compares
// every entry with what the manifest says of it before and while it writes it, below an os.Root, and leaves nothing
// behind where something is wrong. Signatures are the business of packaging/signing, who may sign that of the caller.
package packaging
