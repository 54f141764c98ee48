package features

import "sync"

// kind tells apart what a history is of.
type kind uint8

const (
	ofCustomer kind = iota
	ofTerminal
	ofMerchant
	ofDevice
	withDevice // customer and device
	inCountry  // customer and country
	atMerchant // customer and merchant
)

// subject is what a history is of.
type subject struct {
	kind kind
	a, b uint32
}

// State is the histories of all customers, terminals, merchants and devices. Any number of goroutines may use it. There is one lock for all of it, which is held for
// some microseconds; so a profile and the transaction that it belongs to are one step, and two transactions of one customer never both miss the other.
type State struct {
	mu     sync.Mutex
	series map[subject]*series
	visits map[subject]visits
	known  int   // transactions added and not removed
	newest int64 // the time of the newest, in milliseconds
}

// New is a State without history.
func New() *State {
	return &State{series: map[subject]*series{}, visits: map[subject]visits{}}
}

// Observe writes the profile of t into its argument, which has room for Count numbers, and adds t to the history. A missing number is NaN.
func (s *State) Observe(t *Transaction, into []float32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.profile(t, into)
	s.add(t)
}

// Profile writes the profile that t would have now, and changes nothing.
func (s *State) Profile(t *Transaction, into []float32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.profile(t, into)
}

// Add adds a transaction to the history whose profile is known already.
func (s *State) Add(t *Transaction) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add(t)
}

// Remove takes a transaction out of the history that was added to it by mistake, such as one that turned out to be another's repetition. The histories are then as if it had
// never been there.
func (s *State) Remove(t *Transaction) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known--
	for _, one := range t.subjects() {
		if series := s.series[one]; series != nil {
			series.remove(t)
		}
	}
	for _, one := range t.pairs() {
		s.visits[one] = s.visits[one].remove(t.At)
	}
}

// Label records the ground truth of a transaction: from now on its terminal and its merchant are judged by it, once it is older than Delay. One that is not in
// the history any more is past counting.
func (s *State) Label(t *Transaction, fraud bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range t.subjects() {
		if series := s.series[one]; series != nil && (one.kind == ofTerminal || one.kind == ofMerchant) {
			series.label(t, fraud)
		}
	}
}

// Known is how many transactions were added.
func (s *State) Known() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known
}

// Sweep looks at some histories, at most n of each sort, and forgets those that have had no transaction for longer than Retention before the newest of all. Called now and then, it keeps the memory in
// proportion to who is active; the lock is held for as long as n look-ups take.
func (s *State) Sweep(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.newest - retentionMillis
	looked := 0
	for key, one := range s.series { // which begins at another place each time
		if looked++; looked > n {
			break
		}
		if k := len(one.events); k == 0 || one.events[k-1].at < before {
			delete(s.series, key)
		}
	}
	looked = 0
	for key, one := range s.visits {
		if looked++; looked > n {
			break
		}
		if k := len(one); k == 0 || one[k-1] < before {
			delete(s.visits, key)
		}
	}
}

func (t *Transaction) subjects() [4]subject {
	return [4]subject{{ofCustomer, t.Customer, 0}, {ofTerminal, t.Terminal, 0}, {ofMerchant, t.Merchant, 0}, {ofDevice, t.Device, 0}}
}

func (t *Transaction) pairs() [3]subject {
	country := uint32(t.Country[0])<<8 | uint32(t.Country[1])
	return [3]subject{{withDevice, t.Customer, t.Device}, {inCountry, t.Customer, country}, {atMerchant, t.Customer, t.Merchant}}
}

func (s *State) add(t *Transaction) {
	s.known++
	s.newest = max(s.newest, t.At)
	for _, one := range t.subjects() {
		history := s.series[one]
		if history == nil {
			history = &series{}
			s.series[one] = history
		}
		history.add(t)
	}
	for _, one := range t.pairs() {
		s.visits[one] = s.visits[one].add(t.At)
	}
}

// profile reads what each window comes to.
func (s *State) profile(t *Transaction, into []float32) {
	v := view{t: t}
	subjects := t.subjects()
	if customer := s.series[subjects[0]]; customer != nil {
		customer.windows(t.At, &v.customer, tenMinutes)
		if i := customer.after(t.At); i > 0 {
			v.last, v.hasLast = customer.events[i-1], true
		}
	}
	if terminal := s.series[subjects[1]]; terminal != nil {
		terminal.windows(t.At, &v.terminal, tenMinutes)
		terminal.windows(t.At-delayMillis, &v.terminalRisk, day)
	}
	if merchant := s.series[subjects[2]]; merchant != nil {
		var risk [windows]sums
		merchant.windows(t.At, &v.merchant, tenMinutes)
		merchant.windows(t.At-delayMillis, &risk, month)
		v.merchantRisk = risk[month]
	}
	if device := s.series[subjects[3]]; device != nil {
		device.windows(t.At, &v.device, tenMinutes)
	}
	pairs := t.pairs()
	v.withDevice, v.inCountry, v.atMerchant = s.visits[pairs[0]].inMonth(t.At), s.visits[pairs[1]].inMonth(t.At), s.visits[pairs[2]].inMonth(t.At)
	v.profile(into)
}
