// Package generate simulates card transactions, after the simulator of the Fraud Detection Handbook (Le Borgne, Siblini, Lebichot, Bontempi: "Reproducible Machine Learning
// for Credit Card Fraud Detection", 2022): customers and terminals with places, customers with habits, terminals within their reach, and fraud by scenarios that last. Added to
// it are cities and countries, merchants with several terminals, devices, the Internet, journeys and new telephones of honest people, more scenarios, and habits that drift. Nothing describes a person.
//
// One seed gives one sequence of transactions, on every machine.
package generate

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/picket-ml/picket/examples/fraud/features"
)

// Options say what is simulated. The zero value of a field takes its default.
type Options struct {
	// Seed is 1 where it is 0.
	Seed uint64
	// Customers is 3000 where it is 0. Each has about two transactions a day.
	Customers int
	// Start is the midnight at which the simulation begins; 2026-01-01 where it is zero.
	Start time.Time
}

// Scenario is how a fraud came about.
type Scenario uint8

// The scenarios. Terminal and Leaked are the Handbook's second and third.
const (
	Honest   Scenario = iota
	Terminal          // a compromised terminal: for 28 days what is paid there is mostly fraud
	Leaked            // leaked credentials: for 14 days a third of a customer's transactions are fraud, of five times the amount
	Testing           // stolen numbers are tried with small amounts, in bursts, and then emptied
	Cloned            // a copy of the card is used abroad while its owner is at home
	Takeover          // somebody else's device uses the account, mostly at night
	scenarios
)

// String is the scenario's name.
func (s Scenario) String() string {
	return [scenarios]string{"honest", "terminal", "leaked", "testing", "cloned", "takeover"}[s]
}

// Transaction is a simulated transaction with its ground truth.
type Transaction struct {
	features.Transaction
	Scenario Scenario
}

// Fraud tells whether the customer did not mean it.
func (t *Transaction) Fraud() bool { return t.Scenario != Honest }

// Simulation gives one day after the other. It is for one goroutine.
type Simulation struct {
	random    *rand.Rand
	customers []customer
	terminals []terminal
	// near are the terminals of a place, and web those of the Internet.
	near   [][]int32
	web    []int32
	start  time.Time
	day    int
	serial uint64
	// stolen are device numbers of thieves.
	stolen uint32
	today  []Transaction
}

type customer struct {
	home                int
	latitude, longitude float64
	mean                float64 // usual amount in euros
	perDay              float64
	usual               []int32 // terminals nearby that the customer goes to
	shops               []int32 // of the Internet
	online, contactless float64
	hour                float64 // around which the customer pays
	phone               uint32  // how many telephones there were

	away      int // where a journey goes
	awayUntil int // the day on which it ends
	leaked    int // until which day
}

type terminal struct {
	merchant            uint32
	category            uint8
	place               int
	latitude, longitude float64
	compromised         int // until which day
}

const perMerchant = 4 // terminals of a merchant, about

// New is a simulation that has not begun.
func New(o Options) *Simulation {
	if o.Seed == 0 {
		o.Seed = 1
	}
	if o.Customers == 0 {
		o.Customers = 3000
	}
	if o.Start.IsZero() {
		o.Start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	s := &Simulation{random: rand.New(rand.NewPCG(o.Seed, 0x9e3779b97f4a7c15)), start: o.Start.UTC(), near: make([][]int32, len(places)), stolen: 4_000_000_000}
	for range max(len(places)*12, o.Customers*2) {
		s.open()
	}
	for i := range places { // so that a traveller finds something everywhere
		for len(s.near[i]) < 6 {
			s.openIn(i)
		}
	}
	s.customers = make([]customer, o.Customers)
	for i := range s.customers {
		s.customers[i] = s.settle()
	}
	return s
}

// somewhere is a place, the larger ones more often.
func (s *Simulation) somewhere() int {
	total := 0
	for _, p := range places {
		total += p.people
	}
	at := s.random.IntN(total)
	for i, p := range places {
		if at -= p.people; at < 0 {
			return i
		}
	}
	return 0
}

func (s *Simulation) open() { s.openIn(s.somewhere()) }

// openIn opens a terminal.
func (s *Simulation) openIn(at int) {
	id := int32(len(s.terminals))
	t := terminal{merchant: uint32(id/perMerchant) + 1, place: at, compromised: -1}
	if id%perMerchant != 0 {
		t.category = s.terminals[id-1].category
	} else {
		t.category = s.kind()
	}
	p := places[at]
	t.latitude, t.longitude = p.latitude+s.random.NormFloat64()*0.05, p.longitude+s.random.NormFloat64()*0.07
	s.terminals = append(s.terminals, t)
	if kinds[t.category].online {
		s.web = append(s.web, id)
	} else {
		s.near[at] = append(s.near[at], id)
	}
}

func (s *Simulation) kind() uint8 {
	total := 0
	for _, k := range kinds {
		total += k.common
	}
	at := s.random.IntN(total)
	for i, k := range kinds {
		if at -= k.common; at < 0 {
			return uint8(i)
		}
	}
	return 0
}

// settle makes a customer: the Handbook's uniform means, and terminals that are near.
func (s *Simulation) settle() customer {
	r := s.random
	c := customer{
		home: s.somewhere(), mean: 5 + 95*r.Float64(), perDay: 0.1 + 3.8*r.Float64(), online: 0.4 * r.Float64() * r.Float64(), contactless: 0.2 + 0.7*r.Float64(),
		hour: 14 + 3*r.NormFloat64(), awayUntil: -1, leaked: -1,
	}
	p := places[c.home]
	c.latitude, c.longitude = p.latitude+r.NormFloat64()*0.05, p.longitude+r.NormFloat64()*0.07
	type far struct {
		id int32
		km float64
	}
	var reach []far
	for range min(60, 4*len(s.near[c.home])) { // a sample of the town, and of it what is nearest
		id := s.near[c.home][r.IntN(len(s.near[c.home]))]
		t := &s.terminals[id]
		reach = append(reach, far{id, math.Hypot((t.latitude-c.latitude)*111, (t.longitude-c.longitude)*75)})
	}
	slices.SortFunc(reach, func(a, b far) int { return cmp.Or(cmp.Compare(a.km, b.km), cmp.Compare(a.id, b.id)) })
	reach = slices.CompactFunc(reach, func(a, b far) bool { return a.id == b.id })
	for _, f := range reach[:min(16, len(reach))] {
		c.usual = append(c.usual, f.id)
	}
	for range 4 {
		if len(s.web) > 0 {
			c.shops = append(c.shops, s.web[r.IntN(len(s.web))])
		}
	}
	return c
}

// months is how far the simulation has got, for what drifts.
func (s *Simulation) months() float64 { return float64(s.day) / 30.4 }

// Day simulates the next day and gives its transactions in the order of their time. The slice is the caller's until the next call.
func (s *Simulation) Day() []Transaction {
	s.today = s.today[:0]
	s.change()
	for i := range s.customers {
		s.live(i)
	}
	s.steal()
	slices.SortFunc(s.today, func(a, b Transaction) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Key, b.Key))
	})
	s.day++
	return s.today
}

// change is what is new today: journeys, telephones, terminals, and the scenarios that last.
func (s *Simulation) change() {
	r, n := s.random, len(s.customers)
	for range s.poisson(0.0025 * float64(n)) {
		c := &s.customers[r.IntN(n)]
		if s.day > c.awayUntil {
			c.away, c.awayUntil = s.somewhere(), s.day+2+r.IntN(8)
		}
	}
	for range s.poisson(0.0015 * float64(n)) {
		s.customers[r.IntN(n)].phone++
	}
	for range s.poisson(0.0008 * float64(len(s.terminals))) { // shops open, and some customers go there
		s.open()
		id := int32(len(s.terminals) - 1)
		for range 1 + r.IntN(6) {
			c := &s.customers[r.IntN(n)]
			if t := &s.terminals[id]; t.place == c.home && !kinds[t.category].online && len(c.usual) > 0 {
				c.usual[r.IntN(len(c.usual))] = id
			}
		}
	}
	// The Handbook draws two of 10,000 terminals and three of 5,000 customers a day, and has 0.8% of frauds by three scenarios.
	for range s.poisson(0.00009 * float64(len(s.terminals))) {
		s.terminals[r.IntN(len(s.terminals))].compromised = s.day + 28
	}
	for range s.poisson(0.0003 * float64(n) * (1 + 0.08*s.months())) {
		s.customers[r.IntN(n)].leaked = s.day + 14
	}
}

// live is a customer's day.
func (s *Simulation) live(i int) {
	r, c := s.random, &s.customers[i]
	travelling := s.day <= c.awayUntil
	rate := c.perDay
	if travelling {
		rate *= 1.5
	}
	if weekday := s.start.AddDate(0, 0, s.day).Weekday(); weekday == time.Saturday {
		rate *= 1.3
	} else if weekday == time.Sunday {
		rate *= 0.7
	}
	for range s.poisson(rate) {
		t := s.blank(i)
		// The Handbook's normal distribution around a time of day; what falls outside the day comes again evenly.
		seconds := c.hour*3600 + r.NormFloat64()*4.5*3600
		if seconds < 0 || seconds >= 86400 {
			seconds = r.Float64() * 86400
		}
		t.At += int64(seconds * 1000)
		var at int32
		switch {
		case len(c.shops) > 0 && r.Float64() < c.online*(1+0.04*s.months()):
			at = c.shops[r.IntN(len(c.shops))]
			if r.Float64() < 0.15 {
				at = s.web[r.IntN(len(s.web))]
			}
		case travelling:
			at = s.near[c.away][r.IntN(len(s.near[c.away]))]
		case r.Float64() < 0.06: // somewhere else in town
			at = s.near[c.home][r.IntN(len(s.near[c.home]))]
		default:
			at = c.usual[r.IntN(len(c.usual))]
		}
		s.at(&t, i, at)
		amount := s.amount(c, t.Category)
		if r.Float64() < 0.006 { // a gift, a washing machine
			amount *= 3 + 6*r.Float64()
		}
		switch {
		case s.day <= s.terminals[at].compromised && r.Float64() < 0.7:
			t.Scenario = Terminal
			amount *= 1 + r.Float64()
		case s.day <= c.leaked && r.Float64() < 1.0/3:
			t.Scenario = Leaked
			amount *= 5
		}
		s.put(t, amount)
	}
}

// steal are the scenarios of a few hours. Which of them are common drifts: cards are cloned less and accounts taken over more from month to month.
func (s *Simulation) steal() {
	r, n := s.random, len(s.customers)
	for range s.poisson(0.00022 * float64(n) * (1 + 0.1*s.months())) {
		s.test(r.IntN(n))
	}
	for range s.poisson(0.0007 * float64(n) * max(0.3, 1-0.08*s.months())) {
		s.clone(r.IntN(n))
	}
	for range s.poisson(0.0004 * float64(n) * (1 + 0.2*s.months())) {
		s.takeOver(r.IntN(n))
	}
}

// test tries a stolen number.
func (s *Simulation) test(i int) {
	r, c := s.random, &s.customers[i]
	if len(s.web) == 0 {
		return
	}
	device, at := s.thief(), s.web[r.IntN(len(s.web))]
	seconds := r.Float64() * 82000
	for range 4 + r.IntN(8) {
		t := s.blank(i)
		t.At += int64(seconds * 1000)
		s.at(&t, i, at)
		t.Device, t.Scenario = device, Testing
		s.put(t, 1+3*r.Float64())
		seconds += 10 + 80*r.Float64()
	}
	t := s.blank(i)
	t.At += int64(seconds * 1000)
	s.at(&t, i, s.web[r.IntN(len(s.web))])
	t.Device, t.Scenario = device, Testing
	s.put(t, c.mean*(3+6*r.Float64()))
}

// clone uses a copy of the card in another country.
func (s *Simulation) clone(i int) {
	r, c := s.random, &s.customers[i]
	where := s.somewhere()
	for places[where].country == places[c.home].country {
		where = s.somewhere()
	}
	seconds := r.Float64() * 70000
	for range 1 + r.IntN(4) {
		t := s.blank(i)
		t.At += int64(seconds * 1000)
		s.at(&t, i, s.near[where][r.IntN(len(s.near[where]))])
		t.Channel, t.Device, t.Scenario = features.Chip, card(i), Cloned
		s.put(t, s.amount(c, t.Category)*(1.5+2*r.Float64()))
		seconds += 600 + 4000*r.Float64()
	}
}

// takeOver uses the account from a device of a thief.
func (s *Simulation) takeOver(i int) {
	r, c := s.random, &s.customers[i]
	if len(s.web) == 0 {
		return
	}
	device := s.thief()
	seconds := r.Float64() * 6 * 3600
	if r.Float64() < 0.4 {
		seconds = r.Float64() * 70000
	}
	for range 2 + r.IntN(4) {
		t := s.blank(i)
		t.At += int64(seconds * 1000)
		s.at(&t, i, s.web[r.IntN(len(s.web))])
		t.Device, t.Scenario = device, Takeover
		s.put(t, c.mean*(1.5+3*r.Float64()))
		seconds += 120 + 2500*r.Float64()
	}
}

func (s *Simulation) thief() uint32 {
	s.stolen++
	return s.stolen
}

// blank is a transaction of a customer at this day's midnight.
func (s *Simulation) blank(i int) Transaction {
	var t Transaction
	t.At = s.start.AddDate(0, 0, s.day).UnixMilli()
	t.Customer = uint32(i) + 1
	return t
}

func card(i int) uint32 { return uint32(i)*1000 + 1 }

// at puts a transaction to a terminal.
func (s *Simulation) at(t *Transaction, i int, id int32) {
	c, where := &s.customers[i], &s.terminals[id]
	t.Terminal, t.Merchant, t.Category = uint32(id)+1, where.merchant, where.category
	home, latitude, longitude := where.place, where.latitude, where.longitude
	t.Device = card(i)
	switch {
	case kinds[where.category].online:
		t.Channel, t.Device = features.Online, uint32(i)*1000+2
		home, latitude, longitude = c.home, c.latitude, c.longitude // where the browser is
	case s.random.Float64() < c.contactless:
		t.Channel = features.Contactless
		if s.random.Float64() < 0.5 {
			t.Device = uint32(i)*1000 + 3 + c.phone%997
		}
	}
	t.Country = [2]byte{places[home].country[0], places[home].country[1]}
	t.Latitude, t.Longitude = int32(math.Round(latitude*1e6)), int32(math.Round(longitude*1e6))
}

// amount is the Handbook's normal distribution around the customer's mean, at this kind of merchant, with prices that rise.
func (s *Simulation) amount(c *customer, category uint8) float64 {
	amount := c.mean * (1 + 0.5*s.random.NormFloat64())
	if amount < 0 {
		amount = 2 * c.mean * s.random.Float64()
	}
	return amount * kinds[category].factor * (1 + 0.01*s.months())
}

// put adds a transaction to the day.
func (s *Simulation) put(t Transaction, amount float64) {
	// What lasts beyond midnight ends with the day.
	last := s.start.AddDate(0, 0, s.day+1).UnixMilli() - 1
	t.At = min(t.At, last)
	t.Amount = min(features.MaxAmount, max(1, int64(math.Round(amount*100))))
	s.serial++
	t.Key = s.serial
	s.today = append(s.today, t)
}

// poisson is Knuth's for small means, and the normal distribution for others.
func (s *Simulation) poisson(mean float64) int {
	if mean > 30 {
		return max(0, int(math.Round(mean+math.Sqrt(mean)*s.random.NormFloat64())))
	}
	limit, product, n := math.Exp(-mean), s.random.Float64(), 0
	for product > limit {
		product *= s.random.Float64()
		n++
	}
	return n
}

// Known is the transaction with what is known of it in the end.
func (t Transaction) Known() (*features.Transaction, bool) { return &t.Transaction, t.Fraud() }
