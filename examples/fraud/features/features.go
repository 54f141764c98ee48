// Package features makes the profile of a card transaction: what the model sees of it and of the history of its customer, terminal, merchant
// and device. Training and serving use this one package, so there is no second definition that could drift away from the first.
//
// The definition. Let t be a transaction, and let its history be the transactions that arrived before it. A window of length w is the part of the history
// with t.At-w < At <= t.At; so what arrives late is seen by what comes after it, and sees what happened before it. A terminal's and a
// merchant's risk is the part of known frauds in a window that ends [Delay] earlier, because banks hear of frauds late. Everything that is
// summed is a whole number, so the order of arrival changes no bit of a sum.
//
// The computation. State keeps a history of [Retention] for each customer, terminal, merchant and device, ordered by time, with running totals: a window is the
// difference of two totals, found by binary search. No request reads through history. A transaction that is older than the newest of its customer by more than [Lateness] may find
// a history that was cut off already; the application accepts none.
package features

import "time"

// The limits of a history.
const (
	// Delay is how long after a transaction its ground truth counts for the risk of its terminal and merchant.
	Delay = 7 * 24 * time.Hour
	// Lateness is how late a transaction may arrive and still get, and give, exact windows.
	Lateness = 24 * time.Hour
	// Retention is how far history reaches back from the newest transaction of a customer, terminal, merchant or device.
	Retention = longest + Delay + Lateness + time.Hour

	longest = 30 * 24 * time.Hour
)

// window is one of the windows that end at a transaction.
type window int

const (
	tenMinutes window = iota
	hour
	day
	week
	month
	windows // how many there are
)

// lengths are in milliseconds.
var lengths = [windows]int64{
	tenMinutes: 10 * 60 * 1000,
	hour:       60 * 60 * 1000,
	day:        24 * 60 * 60 * 1000,
	week:       7 * 24 * 60 * 60 * 1000,
	month:      int64(longest / time.Millisecond),
}

// Feature is one element of a profile.
type Feature struct {
	// Name is the column's name in training data.
	Name string
	// Text says what it is, to people.
	Text string
	from func(*view) float64
}

// list is the profile, in the order of the model's input. A model is trained for exactly this list; Names is kept beside each.
var list = []Feature{
	{"amount", "amount", func(v *view) float64 { return euros(v.t.Amount) }},
	{"online", "paid online", func(v *view) float64 { return flag(v.t.Channel == Online) }},
	{"contactless", "paid contactless", func(v *view) float64 { return flag(v.t.Channel == Contactless) }},
	{"category", "kind of merchant", func(v *view) float64 { return float64(v.t.Category) }},
	{"hour", "hour of the day, UTC", func(v *view) float64 { return float64(v.t.At%dayMillis) / hourMillis }},
	{"night", "between 0 and 6 o'clock, UTC", func(v *view) float64 { return flag(v.t.night()) }},
	{"weekend", "on a weekend", func(v *view) float64 { return flag(v.t.weekend()) }},

	{"customer_count_10m", "customer's transactions in 10 minutes", func(v *view) float64 { return float64(v.customer[tenMinutes].count) }},
	{"customer_count_1h", "customer's transactions in an hour", func(v *view) float64 { return float64(v.customer[hour].count) }},
	{"customer_count_1d", "customer's transactions in a day", func(v *view) float64 { return float64(v.customer[day].count) }},
	{"customer_count_7d", "customer's transactions in 7 days", func(v *view) float64 { return float64(v.customer[week].count) }},
	{"customer_count_30d", "customer's transactions in 30 days", func(v *view) float64 { return float64(v.customer[month].count) }},
	{"customer_sum_10m", "spent by the customer in 10 minutes", func(v *view) float64 { return v.customer[tenMinutes].euros() }},
	{"customer_sum_1h", "spent by the customer in an hour", func(v *view) float64 { return v.customer[hour].euros() }},
	{"customer_sum_1d", "spent by the customer in a day", func(v *view) float64 { return v.customer[day].euros() }},
	{"customer_mean_7d", "customer's mean amount in 7 days", func(v *view) float64 { return v.customer[week].mean() }},
	{"customer_mean_30d", "customer's mean amount in 30 days", func(v *view) float64 { return v.customer[month].mean() }},
	{"customer_deviation_30d", "standard deviation of the customer's amounts in 30 days", func(v *view) float64 { return v.customer[month].deviation() }},
	{"amount_by_mean", "amount as a multiple of the customer's mean in 30 days", func(v *view) float64 { return euros(v.t.Amount) / v.customer[month].mean() }},
	{"amount_deviations", "amount in standard deviations from the customer's mean in 30 days", func(v *view) float64 { return v.customer[month].standardised(v.t.Amount) }},
	{"velocity_1h", "customer's transactions in an hour as a multiple of the usual in 7 days", func(v *view) float64 {
		return float64(v.customer[hour].count) * 7 * 24 / float64(v.customer[week].count)
	}},
	{"customer_night_30d", "part of the customer's transactions at night in 30 days", func(v *view) float64 { return v.customer[month].part(v.customer[month].nights) }},
	{"customer_online_30d", "part of the customer's transactions online in 30 days", func(v *view) float64 { return v.customer[month].part(v.customer[month].online) }},
	{"seconds_since_last", "seconds since the customer's last transaction", func(v *view) float64 { return v.sinceLast() }},
	{"km_since_last", "kilometres from the customer's last transaction", func(v *view) float64 { return v.distanceFromLast() }},
	{"kmh_since_last", "speed since the customer's last transaction, km/h", func(v *view) float64 { return v.speedSinceLast() }},
	{"km_from_usual", "kilometres from the middle of the customer's transactions in 30 days", func(v *view) float64 { return v.distanceFromUsual() }},

	{"new_device", "customer has not used the device in 30 days", func(v *view) float64 { return flag(v.withDevice == 0) }},
	{"new_country", "customer has not paid in the country in 30 days", func(v *view) float64 { return flag(v.inCountry == 0) }},
	{"new_merchant", "customer has not paid the merchant in 30 days", func(v *view) float64 { return flag(v.atMerchant == 0) }},

	{"terminal_count_10m", "terminal's transactions in 10 minutes", func(v *view) float64 { return float64(v.terminal[tenMinutes].count) }},
	{"terminal_count_1d", "terminal's transactions in a day", func(v *view) float64 { return float64(v.terminal[day].count) }},
	{"terminal_mean_30d", "terminal's mean amount in 30 days", func(v *view) float64 { return v.terminal[month].mean() }},
	{"terminal_risk_1d", "part of frauds at the terminal in a day, a week ago", func(v *view) float64 { return v.terminalRisk[day].risk() }},
	{"terminal_risk_7d", "part of frauds at the terminal in 7 days, a week ago", func(v *view) float64 { return v.terminalRisk[week].risk() }},
	{"terminal_risk_30d", "part of frauds at the terminal in 30 days, a week ago", func(v *view) float64 { return v.terminalRisk[month].risk() }},

	{"merchant_count_1h", "merchant's transactions in an hour", func(v *view) float64 { return float64(v.merchant[hour].count) }},
	{"merchant_mean_7d", "merchant's mean amount in 7 days", func(v *view) float64 { return v.merchant[week].mean() }},
	{"merchant_risk_30d", "part of frauds at the merchant in 30 days, a week ago", func(v *view) float64 { return v.merchantRisk.risk() }},

	{"device_count_10m", "device's transactions in 10 minutes", func(v *view) float64 { return float64(v.device[tenMinutes].count) }},
	{"device_count_1d", "device's transactions in a day", func(v *view) float64 { return float64(v.device[day].count) }},
	{"device_sum_1d", "spent with the device in a day", func(v *view) float64 { return v.device[day].euros() }},
}

// Count is how many features a profile has.
var Count = len(list)

// Names are the features' names, in the order of a profile.
func Names() []string {
	names := make([]string, len(list))
	for i := range list {
		names[i] = list[i].Name
	}
	return names
}

// At is the feature at position i of a profile.
func At(i int) Feature { return list[i] }
