package features

import "math"

// sums are totals over transactions: of those in a window, or of all up to one. Squares may overflow in a running total; the difference of two is right all the same
// as long as a window's own squares do not, which MaxAmount sees to.
type sums struct {
	amount, squares     uint64 // cents, and cents squared
	latitude, longitude int64
	count               uint32
	nights, online      uint32
	frauds              uint32
}

func (s sums) plus(o sums) sums {
	return sums{s.amount + o.amount, s.squares + o.squares, s.latitude + o.latitude, s.longitude + o.longitude, s.count + o.count, s.nights + o.nights, s.online + o.online, s.frauds + o.frauds}
}

func (s sums) minus(o sums) sums {
	return sums{s.amount - o.amount, s.squares - o.squares, s.latitude - o.latitude, s.longitude - o.longitude, s.count - o.count, s.nights - o.nights, s.online - o.online, s.frauds - o.frauds}
}

// sums are those of the transaction alone. Whether it was a fraud is heard later.
func (t *Transaction) sums() sums {
	s := sums{amount: uint64(t.Amount), squares: uint64(t.Amount) * uint64(t.Amount), latitude: int64(t.Latitude), longitude: int64(t.Longitude), count: 1}
	if t.night() {
		s.nights = 1
	}
	if t.Channel == Online {
		s.online = 1
	}
	return s
}

func (s sums) euros() float64 { return float64(s.amount) / 100 }

// mean is missing, NaN, without transactions; so is whatever is divided by it.
func (s sums) mean() float64 { return s.euros() / float64(s.count) }

// deviation is missing with fewer than two transactions.
func (s sums) deviation() float64 {
	if s.count < 2 {
		return math.NaN()
	}
	n, total := float64(s.count), float64(s.amount)
	return math.Sqrt(max(0, (float64(s.squares)-total*total/n)/(n-1))) / 100
}

// standardised is missing where the deviation is, or is 0.
func (s sums) standardised(amount int64) float64 {
	deviation := s.deviation()
	if deviation == 0 {
		return math.NaN()
	}
	return (euros(amount) - s.mean()) / deviation
}

func (s sums) part(of uint32) float64 { return float64(of) / float64(s.count) }

// risk is 0 without transactions.
func (s sums) risk() float64 {
	if s.count == 0 {
		return 0
	}
	return s.part(s.frauds)
}

// view is a transaction and what its history comes to: the step between histories and the numbers of a profile.
type view struct {
	t                                    *Transaction
	customer, terminal, merchant, device [windows]sums
	terminalRisk                         [windows]sums // of day, week and month
	merchantRisk                         sums
	withDevice, inCountry, atMerchant    int
	last                                 event // the customer's transaction before this one
	hasLast                              bool
}

// profile writes the features. A missing one is NaN.
func (v *view) profile(into []float32) {
	for i := range list {
		value := list[i].from(v)
		if math.IsInf(value, 0) {
			value = math.NaN()
		}
		into[i] = float32(value)
	}
}

func (v *view) sinceLast() float64 {
	if !v.hasLast {
		return math.NaN()
	}
	return float64(v.t.At-v.last.at) / 1000
}

func (v *view) distanceFromLast() float64 {
	if !v.hasLast {
		return math.NaN()
	}
	return kilometres(float64(v.t.Latitude), float64(v.t.Longitude), float64(v.last.latitude), float64(v.last.longitude))
}

// speedSinceLast takes a minute at least, so that two transactions of one second give a number that means something.
func (v *view) speedSinceLast() float64 {
	return v.distanceFromLast() * 3600 / max(60, v.sinceLast())
}

func (v *view) distanceFromUsual() float64 {
	s := &v.customer[month]
	if s.count == 0 {
		return math.NaN()
	}
	return kilometres(float64(v.t.Latitude), float64(v.t.Longitude), float64(s.latitude)/float64(s.count), float64(s.longitude)/float64(s.count))
}

// kilometres is the distance on a sphere of the Earth's size between places in millionths of a degree.
func kilometres(latitude1, longitude1, latitude2, longitude2 float64) float64 {
	const radians = math.Pi / 180 / 1e6
	a := math.Sin((latitude2 - latitude1) * radians / 2)
	b := math.Sin((longitude2 - longitude1) * radians / 2)
	h := float64(a*a) + float64(math.Cos(latitude1*radians)*math.Cos(latitude2*radians)*b)*b
	return 2 * 6371 * math.Asin(math.Sqrt(min(1, h)))
}

func euros(cents int64) float64 { return float64(cents) / 100 }

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
