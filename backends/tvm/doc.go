// Package tvm is the backend that runs the graphs that TVM has compiled, and
// SageMaker Neo with it: a library of functions (compiled.so), a graph that says
// which is called on what (compiled_model.json), and parameters (compiled.params).
// It needs neither libdlr nor any library of TVM.
//
// # What it does
//
// A graph executor's work is done once, when the model is opened: the tensors of
// the graph get their places in memory, and every call is written down with its
// arguments. A Run is then one call into C that goes through that list. Parameters
// are there once and read by all instances; each instance has its own memory for
// what functions give each other, so that any number of them run at once.
//
// The caller's tensors are used where they are: functions read the input and write
// the output there. They are copied where they are not aligned as the compiler was
// promised (tensor.Alignment), where rows have to be filled up to a batch, or where
// the graph uses the memory of an output for something larger.
//
// The stack lies at the start of a cache line when a function is called, and what
// has room for large pages is in such (run.c, tensor.Buffer.PreferLargePages): both
// are speed that a network would else have by chance, or not at all.
//
// A library calls its runtime through pointers that whoever loads it fills in
// (provided.go): working memory, tasks for several threads, the last error. They
// are global to the library, so the functions behind them (run.c) find out by the
// thread that calls for which instance it is.
//
// # What it answers
//
// What TVM's own executor answers with as many threads, to the bit: the arithmetic
// is all in the library. Names and dimensions of tensors are those that
// compiled.meta lists, else those of the graph, with outputs output_0, output_1 and
// so on, as backend dlr has them.
//
// A graph has fixed dimensions, and so does the Signature. Where compiled.meta gives
// the first dimension of all tensors as -1, it is the number of rows: requests with
// fewer than the graph takes are filled up with zeros, larger ones run in parts.
// Whether that makes sense, the graph cannot tell: the first dimension may as well be
// the words of a sentence.
//
// # Threads
//
// A graph that is done in less than 100 µs runs on the thread that asks. Of a longer
// one it is measured, when it is opened, whether more threads pay, up to
// engine.OpenOptions.Threads. An instance then has threads of its own, which sleep
// between runs, and calls up as many as package cores says are free.
//
// # What it refuses, and what it risks
//
// Graph and parameters are not trusted (package neo). The library is code: opening it
// runs it, with the rights of this process, and whether it is trusted has been
// decided before. Against mistakes there is a trial (trial.go): the first run is made in
// a process that ends with it, so that a library for another processor, or one that
// belongs to another graph, is a sentence and not the end of the daemon. After it, a
// function that refuses its arguments fails the Run with the name of its node.
//
// Refused by name, to be run by backend dlr: libraries that call functions of TVM's
// runtime by name (external libraries such as BLAS) or hold modules for it as data
// (accelerators). Relay VM programs are backend dlr's. TVM from 0.20 on compiles to
// another interface, which nothing here runs.
package tvm
