package trace

import (
	"encoding/hex"

	oteltrace "go.opentelemetry.io/otel/trace"
)

// The headers of W3C Trace Context, as gRPC has them and as net/http does.
const (
	parentKey    = "traceparent"
	stateKey     = "tracestate"
	parentHeader = "Traceparent"
	stateHeader  = "Tracestate"
)

// parentLength is that of version 0: version, trace, span and flags in hexadecimal.
const parentLength = 2 + 1 + 32 + 1 + 16 + 1 + 2

// parent is what a caller says of the span that its call is part of.
type parent struct {
	trace   oteltrace.TraceID
	span    oteltrace.SpanID
	sampled bool
}

// parseParent reads a traceparent; false says that it is none, and the request a
// root. It allocates nothing: most parents are not sampled.
func parseParent(text string) (p parent, ok bool) {
	if len(text) < parentLength || text[2] != '-' || text[35] != '-' || text[52] != '-' {
		return p, false
	}
	var version, flags [1]byte
	if !unhex(version[:], text[:2]) || !unhex(p.trace[:], text[3:35]) || !unhex(p.span[:], text[36:52]) || !unhex(flags[:], text[53:55]) {
		return p, false
	}
	switch {
	case version[0] == 0xff, !p.trace.IsValid(), !p.span.IsValid():
		return p, false
	case version[0] == 0 && len(text) != parentLength, len(text) > parentLength && text[parentLength] != '-':
		return p, false // later versions may have more, behind a dash
	}
	p.sampled = flags[0]&byte(oteltrace.FlagsSampled) != 0
	return p, true
}

// unhex decodes lower-case hexadecimal digits, the only ones that are allowed.
func unhex(to []byte, digits string) bool {
	for i := range to {
		high, low := digit(digits[2*i]), digit(digits[2*i+1])
		if high|low > 0xf {
			return false
		}
		to[i] = high<<4 | low
	}
	return true
}

func digit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}

// context is p for the SDK. state is a tracestate, passed on if it is one.
func (p parent) context(state string) oteltrace.SpanContext {
	c := oteltrace.SpanContextConfig{TraceID: p.trace, SpanID: p.span, TraceFlags: oteltrace.FlagsSampled, Remote: true}
	if s, err := oteltrace.ParseTraceState(state); err == nil {
		c.TraceState = s
	}
	return oteltrace.NewSpanContext(c)
}

// String is the traceparent of p.
func (p parent) String() string {
	flags := "00"
	if p.sampled {
		flags = "01"
	}
	return "00-" + hex.EncodeToString(p.trace[:]) + "-" + hex.EncodeToString(p.span[:]) + "-" + flags
}
