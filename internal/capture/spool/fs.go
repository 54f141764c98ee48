package spool

import "io"

// FS is the directory of a spool. Its methods are called by one goroutine at a time but
// for Open and what files read.
type FS interface {
	// Lock makes the directory this process's until the FS is closed, or fails with
	// ErrOwned.
	Lock() error
	// List is the regular files, by name.
	List() ([]FileInfo, error)
	// Create makes a file that is not there, for writing.
	Create(name string) (File, error)
	// Open opens a file for reading; OpenWrite for reading and writing in place.
	Open(name string) (File, error)
	OpenWrite(name string) (File, error)
	// Remove removes a file. One that is gone is no error.
	Remove(name string) error
	// Rename moves a file over what has the name.
	Rename(from, to string) error
	// Sync makes names durable: what was created, removed and renamed.
	Sync() error
	Close() error
}

// FileInfo is a file of the directory.
type FileInfo struct {
	Name string
	Size int64
}

// File is an open file.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	// Sync makes the bytes durable, and the length.
	Sync() error
}
