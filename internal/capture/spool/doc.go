// Package spool keeps captured records on disk until they have left the host:
// append-only segments, one sync for all callers that come together, a pointer that
// moves durably before anything is deleted, and counters that add up at any stop.
// docs/formats/spool.md has the argument and the bytes.
//
// Whoever takes records home reads sealed segments in order, and acknowledges them when
// their records are where they should be:
//
//	for after := uint64(0); ; {
//		segment, err := s.Next(ctx, after) // waits for one to be sealed
//		if err != nil {
//			return err // ctx, or the spool was closed
//		}
//		for batch, err := range s.Batches(segment) {
//			// batch.Records, batch.Sequence, batch.Time; err says what is damaged,
//			// and the rest follows all the same
//		}
//		after = segment.Number
//		err = s.Acknowledge(after, spool.Outcome{Withheld: n}) // this one and those before
//	}
//
// Several segments may be read before they are acknowledged together. After a crash the
// same segments, with the same numbers and the same bytes, come again, so an object's
// name that is made of them names the same object.
package spool
