// Package agent serves the interface of the SageMaker Edge Manager agent, so
// that programs written for that agent keep working, and Picket's own control
// service beside it.
//
// The bytes of a tensor are copied once on their way in, from the message or
// the client's shared memory into the request's Buffer, and once on their way
// out. What the metadata of a request says is a hint: clients are known that
// send the wrong type with the right bytes, and they were always served.
//
// # Statuses
//
// NOT_FOUND: no model of that name; nothing at the url. ALREADY_EXISTS: the name
// is taken, and the model that has it keeps serving. INVALID_ARGUMENT: names and
// tensors that do not fit, shared memory that may not be used. FAILED_PRECONDITION:
// the package is no folder, is damaged, was not built for this machine, is not
// signed or lies where none may be loaded from. RESOURCE_EXHAUSTED: no memory, a
// full queue, a message above the limit. UNAVAILABLE: the daemon is ending.
// INTERNAL: the model failed, or the message is no valid protobuf.
//
// The message of a LoadModel error has no digits, because one known client looks
// for the 6 of ALREADY_EXISTS in the whole text. What it leaves out is in the
// status details, as a google.protobuf.StringValue, and in the log.
package agent
