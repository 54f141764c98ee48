// Package control is the Go form of Picket's own control service, generated
// from control.proto by ../generate.sh.
package control
