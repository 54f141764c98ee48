package format

import "time"

// Record is one captured request as it may leave.
type Record struct {
	// Number is what the spool calls the record.
	Number uint64
	// ID is the event's id, and unique but for what clients do.
	ID string
	// InferenceID is the caller's own id of the request, by which its outcome is found
	// later; empty for none.
	InferenceID string
	Model       string
	Version     string
	Time        time.Time
	Inputs      []Tensor
	Outputs     []Tensor
	// AuxiliaryInputs and AuxiliaryOutputs are what a client captured beside the tensors.
	AuxiliaryInputs  []Auxiliary
	AuxiliaryOutputs []Auxiliary
	// Failure is what the request failed with; empty where it did not.
	Failure string
	// Truth is the outcome of the event of that ID, and then there is nothing else; nil
	// for a captured request.
	Truth *Truth
}

// Auxiliary is data that is no tensor.
type Auxiliary struct {
	Name string
	Data []byte
	// Encoding is one of the Edge Manager agent's: NONE, CSV, JSON or BASE64.
	Encoding string
	// ContentType is what a client calls it, such as jpg.
	ContentType string
}

// Truth is what became of an event.
type Truth struct {
	// Data is a row of text, Encoding CSV or JSON.
	Data     string
	Encoding string
}
