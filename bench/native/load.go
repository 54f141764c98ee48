package native

import "time"

// Load is a closed load of one caller. The last fields are told.
type Load struct {
	Start     time.Time
	End       time.Duration // from Start: none is sent later
	Every     int           // one of so many requests is timed, at random; 0 for none
	Answers   []float32     // the reference, one for each row that there is; nil for none
	Tolerance float64

	Asked int64         // requests that were answered, where none is timed,
	Took  time.Duration // and in what time from Start
	Wrong int64         // requests with an answer that is not the reference's,
	// and the first of them.
	WrongRow    int
	WrongAnswer float32
}

// Timed is a request that was timed: when it was sent and when its answer was there, from the load's Start, and how many before it were answered and
// not timed.
type Timed struct {
	Sent, Back int64 // nanoseconds
	Others     uint32
	code       int32
}
