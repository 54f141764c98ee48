// Package engine runs models.
//
// An [Engine] knows its host and a list of backends. It opens artifacts through
// them, keeps the opened models under names, and answers predictions: at once
// when an instance is idle, together with others in one batch when all are
// busy. Nothing waits for a timer unless a model was configured to.
//
// The contract with backends is in backend.go; what a caller does is:
//
//	model, err := eng.Acquire("fraud")
//	defer model.Release()
//	request, err := model.NewRequest(rows)
//	defer request.Release()
//	copy(request.Inputs[0].Bytes(), payload)
//	err = request.Predict(ctx)
//	// request.Outputs are valid until request.Release
package engine
