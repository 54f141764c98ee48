//go:build !race

package store

const step = 1
