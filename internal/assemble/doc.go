// Package assemble makes packages of artifact folders: what each asks of a host is read from its files, the model is run for
// the answers that a host has to give as well, and the result is signed. It is what `picket package` and `picket pipeline`
// share.
package assemble
