package trace

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/propagation"
	oteltrace "go.opentelemetry.io/otel/trace"
)

// FuzzParent holds the parser to OpenTelemetry's own.
func FuzzParent(f *testing.F) {
	for _, text := range []string{
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
		"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
		"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
		"00-00000000000000000000000000000000-b7ad6b7169203331-01",
		"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
		"", "00", "00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{parentKey: text})
		want := oteltrace.SpanContextFromContext(ctx)
		got, ok := parseParent(text)
		if ok && want.IsValid() && (got.trace != want.TraceID() || got.span != want.SpanID() || got.sampled != want.IsSampled()) {
			t.Fatalf("%q is %v, want %v", text, got, want)
		}
		if want.IsValid() && !ok {
			t.Fatalf("%q is refused, and is %v", text, want)
		}
		if ok && text[:2] == "00" && !want.IsValid() && text[53:55] <= "01" {
			t.Fatalf("%q is taken, and is none", text)
		}
	})
}
