package features

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/picket-ml/picket/examples/fraud/api"
)

// MaxAmount is the largest amount in cents. Some hundred thousand of them within a month can be told apart to the cent.
const MaxAmount = 10_000_000

// Channel is how a card was used.
type Channel uint8

// The channels.
const (
	Chip Channel = iota
	Contactless
	Online
)

// channels are the names of the channels.
var channels = [...]api.Channel{Chip: api.Chip, Contactless: api.Contactless, Online: api.Online}

const (
	hourMillis = 60 * 60 * 1000
	dayMillis  = 24 * hourMillis
)

// Transaction is a transaction in the form that histories are made of: whole numbers.
type Transaction struct {
	// Key stands for the transaction's id.
	Key uint64
	// At is the time in milliseconds since 1970.
	At                                   int64
	Customer, Terminal, Merchant, Device uint32
	// Amount is in cents.
	Amount int64
	// Latitude and Longitude are in millionths of a degree.
	Latitude, Longitude int32
	Channel             Channel
	// Category is an index into api.Categories.
	Category uint8
	Country  [2]byte
}

// Of turns a client's transaction into the form of histories. It is the place where a transaction is judged: what it refuses is refused with a sentence for the client.
func Of(t *api.Transaction) (Transaction, error) {
	if err := checkID(t.ID); err != nil {
		return Transaction{}, err
	}
	channel := slices.Index(channels[:], t.Channel)
	category := slices.Index(api.Categories, t.Category)
	switch {
	case t.Time.Year() < 1970 || t.Time.Year() > 2200:
		return Transaction{}, errors.New(`reading the transaction: "time" is not there, or not in this age`)
	case t.Customer == 0 || t.Terminal == 0 || t.Merchant == 0 || t.Device == 0:
		return Transaction{}, errors.New(`reading the transaction: "customer", "terminal", "merchant" and "device" must be numbers above 0`)
	case t.Amount < 1 || t.Amount > MaxAmount:
		return Transaction{}, fmt.Errorf(`reading the transaction: "amount" is %d, and 1 to %d cents are allowed`, t.Amount, MaxAmount)
	case channel < 0:
		return Transaction{}, fmt.Errorf(`reading the transaction: "channel" must be one of %v`, channels)
	case category < 0:
		return Transaction{}, fmt.Errorf(`reading the transaction: "category" must be one of %v`, api.Categories)
	case len(t.Country) != 2 || t.Country[0] < 'A' || t.Country[0] > 'Z' || t.Country[1] < 'A' || t.Country[1] > 'Z':
		return Transaction{}, errors.New(`reading the transaction: "country" must be two capital letters`)
	case !(math.Abs(t.Latitude) <= 90) || !(math.Abs(t.Longitude) <= 180): // so that NaN is refused
		return Transaction{}, errors.New(`reading the transaction: "latitude" must be within 90 degrees, "longitude" within 180`)
	}
	return Transaction{
		Key: Key(t.ID), At: t.Time.UnixMilli(),
		Customer: t.Customer, Terminal: t.Terminal, Merchant: t.Merchant, Device: t.Device,
		Amount: t.Amount, Latitude: microdegrees(t.Latitude), Longitude: microdegrees(t.Longitude),
		Channel: Channel(channel), Category: uint8(category), Country: [2]byte{t.Country[0], t.Country[1]},
	}, nil
}

// API is the transaction in the form of clients, under an id of the caller's.
func (t *Transaction) API(id string) api.Transaction {
	return api.Transaction{
		ID: id, Time: time.UnixMilli(t.At).UTC(),
		Customer: t.Customer, Terminal: t.Terminal, Merchant: t.Merchant, Device: t.Device,
		Amount: t.Amount, Channel: channels[t.Channel], Category: api.Categories[t.Category], Country: string(t.Country[:]),
		Latitude: float64(t.Latitude) / 1e6, Longitude: float64(t.Longitude) / 1e6,
	}
}

// Key is what stands for an id in histories: FNV-1a. Two ids with one key are told apart by their time and customer, where it matters.
func Key(id string) uint64 {
	hash := uint64(14695981039346656037)
	for i := range len(id) {
		hash = (hash ^ uint64(id[i])) * 1099511628211
	}
	return hash
}

func checkID(id string) error {
	if len(id) < 1 || len(id) > 64 {
		return errors.New(`reading the transaction: "id" must have 1 to 64 characters`)
	}
	for _, c := range []byte(id) {
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-' {
			continue
		}
		return errors.New(`reading the transaction: "id" may have letters, digits, '.', '_' and '-' only`)
	}
	return nil
}

func microdegrees(degrees float64) int32 { return int32(math.Round(degrees * 1e6)) }

func (t *Transaction) night() bool { return t.At%dayMillis < 6*hourMillis }

// weekend counts days from 1970-01-01, a Thursday.
func (t *Transaction) weekend() bool { return (t.At/dayMillis+4)%7 == 0 || (t.At/dayMillis+4)%7 == 6 }
