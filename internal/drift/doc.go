// Package drift compares what models are asked, while they serve, with the baseline
// in their packages (internal/monitor), and counts what they answer.
//
// A Watch is the engine's Tap. It looks at a sample of the requests on the thread that
// brought them: a look-up in ten numbers for each value of a row, nothing allocated,
// and nothing waited for: where another thread is at it the request is left out. What
// it knows of a model takes some hundred bytes for each feature, however long it runs.
package drift
