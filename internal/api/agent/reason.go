package agent

// What google.rpc.ErrorInfo says in the details of a status: the reason of a
// refusal that FAILED_PRECONDITION alone does not tell from others.
const (
	ErrorDomain      = "picket"
	ReasonNotTrusted = "NOT_TRUSTED" // policy refused the package
)
