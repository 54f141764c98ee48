package monitor

import (
	"math"
	"strconv"
	"strings"
)

// Kind says what a Value is.
type Kind uint8

// A Value that is Absent was not there to be looked at, such as the score in a
// record of inputs alone; it counts for nothing. One that is Missing should have
// been there: an empty field, null, NaN, an infinity.
const (
	Absent Kind = iota
	Missing
	Number
	Text
)

// Value is one field of a row.
type Value struct {
	Kind   Kind
	Number float64
	Text   string
}

// largest is what numbers may reach, which is what CloudWatch takes as well: the
// square of a larger one, of which there may be many, would soon be infinite.
var largest = math.Ldexp(1, 360)

// NumberValue is x, or Missing where it is no number that can be reckoned with.
func NumberValue(x float64) Value {
	if math.IsNaN(x) || math.Abs(x) > largest {
		return Value{Kind: Missing}
	}
	return Value{Kind: Number, Number: x}
}

// TextValue is what a field of a text file means: a number if it can be read as
// one, Missing if it is empty or says so, else the text.
func TextValue(field string) Value {
	field = strings.TrimSpace(field)
	if field == "" || strings.EqualFold(field, "nan") || strings.EqualFold(field, "null") {
		return Value{Kind: Missing}
	}
	if c := field[0]; c >= '0' && c <= '9' || c == '-' || c == '+' || c == '.' || c == 'i' || c == 'I' {
		if x, err := strconv.ParseFloat(field, 64); err == nil {
			return NumberValue(x)
		}
	}
	return Value{Kind: Text, Text: shortened(field)}
}

// maxText is how much of a text is looked at.
const maxText = 128

// shortened keeps a copy of the beginning, so that a long line does not stay in
// memory for the sake of a short field.
func shortened(text string) string {
	if len(text) > maxText {
		text = text[:maxText]
	}
	return strings.Clone(strings.ToValidUTF8(text, "\uFFFD"))
}

// whole tells whether a number has no fraction.
func whole(x float64) bool { return x == math.Trunc(x) }

// formatNumber is a number as a category.
func formatNumber(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
