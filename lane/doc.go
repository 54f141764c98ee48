// Package lane is a client of picketd's lane: predictions from processes on the
// same host at the cost of a few microseconds.
//
//	client, err := lane.Dial(ctx, "/run/picket/lane.sock", lane.Options{})
//	...
//	defer client.Close()
//	model, err := client.Model(ctx, "fraud")
//	...
//	scores, err := model.PredictFloat32(ctx, features) // any number of rows
//
// Predictions may be asked for by any number of goroutines: they share one
// connection, and what is asked for at the same moment is sent together and run
// together. Model.PredictInto allocates nothing.
//
// The deadline of a context goes along with a request, so that the daemon drops
// what nobody waits for. When the connection is lost, the Client makes a new one,
// and asks once more what had no answer: a prediction changes nothing, so asking
// twice does no harm.
//
// Errors are of type *Error where the daemon or the connection is the cause; they
// answer to errors.Is with context.DeadlineExceeded, context.Canceled and
// ErrUnavailable.
package lane
