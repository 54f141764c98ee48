// Package testkit holds what the tests of several packages share: deterministic
// rows, the committed fixtures and their expected outputs, the real libdlr and ONNX
// Runtime, and a test main that fails on leaks. Only tests import it.
//
// The fixtures are described in testdata/README.md and listed for programs in
// testdata/models/index.json and testdata/treelite/index.json; scripts/fixtures
// rebuilds them. Nothing here skips a test: a missing fixture is a failure.
package testkit
