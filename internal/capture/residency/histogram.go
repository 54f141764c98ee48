package residency

// Histogram is what of a histogram may be published, in place: buckets with fewer than K
// observations are 0, so that nobody can be recognised by being rare. withheld is how
// many observations were taken out, and it may be published too: where they are fewer
// than K, the smallest bucket that is left goes as well, so that what was taken out is
// never known to be one bucket's. A total must be made of what is left.
func (p *Policy) Histogram(counts []uint64) (withheld uint64) {
	k := uint64(max(p.options.K, 0))
	if k < 2 {
		return 0
	}
	var hidden int
	for i, n := range counts {
		if n > 0 && n < k {
			withheld += n
			counts[i] = 0
			hidden++
		}
	}
	for hidden > 0 && withheld < k {
		least := -1
		for i, n := range counts {
			if n > 0 && (least < 0 || n < counts[least]) {
				least = i
			}
		}
		if least < 0 {
			break // nothing is left to hide behind, and nothing is published
		}
		withheld += counts[least]
		counts[least] = 0
	}
	return withheld
}
