// Package archtest keeps the architecture of this module true by reading its sources.
//
// The table in rules.go says, one line per package, who may import whom and who may say `import "C"` or "unsafe". The
// test of this package applies it to every Go file of the module, whatever its build tags, and fails on an import that
// the table does not allow and on a package that has no line. It also refuses a few things that reviews overlook:
// init functions, getters named GetX, paths of one developer's machine, and files too large for a repository.
//
// A new package therefore starts with a new line in the table. That is on purpose: it is the moment to decide where the
// package stands.
package archtest
