// Package signing makes and checks the signature of a package: one of the OpenSSF Model Signing specification 1.0, which is
// a Sigstore bundle with a DSSE envelope over an in-toto statement that lists files and their SHA-256. The Python program
// model_signing makes and checks the same. docs/formats/package.md says what is signed.
//
// A signature says who signed which files; whether that is somebody to be trusted is decided by [Trust], and whether the
// files are those by [Signed.Match]. Nothing here touches the network.
package signing
