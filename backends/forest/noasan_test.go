//go:build !asan

package forest

const sanitized = false
