// Package backendtest is the conformance suite that every backend passes: the
// promises of engine.Backend, engine.Model and engine.Instance, each as a
// scenario that runs on a real artifact. A backend's own tests call Run once per
// kind of artifact and add only what is particular to it.
package backendtest
