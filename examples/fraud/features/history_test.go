package features

// FromHistory is the definition of a profile, word for word: for each window it reads all that arrived before. Tests hold State against it.
func FromHistory[T interface{ Known() (*Transaction, bool) }](history []T, t *Transaction, into []float32) {
	v := view{t: t}
	within := func(at, end, length int64) bool { return end-length < at && at <= end }
	for i := range history {
		one, fraud := history[i].Known()
		own := one.sums()
		if fraud {
			own.frauds = 1
		}
		for w := range windows {
			now, delayed := within(one.At, t.At, lengths[w]), within(one.At, t.At-delayMillis, lengths[w])
			if now && one.Customer == t.Customer {
				v.customer[w] = v.customer[w].plus(own)
			}
			if now && one.Terminal == t.Terminal {
				v.terminal[w] = v.terminal[w].plus(own)
			}
			if now && one.Merchant == t.Merchant {
				v.merchant[w] = v.merchant[w].plus(own)
			}
			if now && one.Device == t.Device {
				v.device[w] = v.device[w].plus(own)
			}
			if delayed && one.Terminal == t.Terminal {
				v.terminalRisk[w] = v.terminalRisk[w].plus(own)
			}
			if delayed && one.Merchant == t.Merchant && w == month {
				v.merchantRisk = v.merchantRisk.plus(own)
			}
		}
		if one.Customer != t.Customer || one.At > t.At {
			continue
		}
		if !v.hasLast || one.At >= v.last.at {
			v.last, v.hasLast = event{at: one.At, latitude: one.Latitude, longitude: one.Longitude}, true
		}
		if within(one.At, t.At, lengths[month]) {
			if one.Device == t.Device {
				v.withDevice++
			}
			if one.Country == t.Country {
				v.inCountry++
			}
			if one.Merchant == t.Merchant {
				v.atMerchant++
			}
		}
	}
	v.profile(into)
}

// Histories is how many histories a State keeps.
func (s *State) Histories() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.series) + len(s.visits)
}
