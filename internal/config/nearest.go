package config

import "strconv"

// nearest returns the candidate with the smallest edit distance to key, or ""
// when none is close enough to be a slip of the hand.
func nearest(key string, candidates []string) string {
	// A key this long is not a slip, and the distance is quadratic.
	if len(key) > 100 {
		return ""
	}
	best, bestDistance := "", 1+max(len(key), 3)/3
	for _, candidate := range candidates {
		if d := distance(key, candidate); d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	return best
}

// distance counts the bytes to insert, delete or replace to turn a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// quote prints a piece of a file, shortened, on one line.
func quote(text string) string {
	const longest = 60
	if len(text) > longest {
		return strconv.Quote(text[:longest]) + "..."
	}
	return strconv.Quote(text)
}
