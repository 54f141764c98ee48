// Package trace makes OpenTelemetry traces of requests and of models that come
// and go, and sends them to a collector. It is the only package that knows the
// OpenTelemetry SDK.
//
// Tracing is off unless it is configured: a nil *Tracer makes no spans, and all
// methods of nil Tracers and Spans do nothing. A request that is not sampled costs
// one decision and allocates nothing. For one that is, a Span is made when it
// comes and filled in as it goes; what the engine measured becomes spans below it
// when it has ended.
//
// Nothing here blocks a request: spans that have ended go into a queue of bounded
// length, and those that find it full are dropped and counted.
package trace
