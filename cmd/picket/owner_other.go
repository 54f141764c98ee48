//go:build !unix

package main

// asOwner is for systems on which a file says whose it is.
func asOwner(string, string) error { return nil }
