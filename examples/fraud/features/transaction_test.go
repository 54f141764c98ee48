package features_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/picket-ml/picket/examples/fraud/api"
	"github.com/picket-ml/picket/examples/fraud/features"
)

func good() api.Transaction {
	return api.Transaction{ID: "t-1", Time: time.Date(2026, 3, 1, 10, 15, 30, 250e6, time.UTC), Customer: 1, Terminal: 2, Merchant: 3, Device: 4, Amount: 4250, Channel: api.Chip, Category: "grocery", Country: "PT", Latitude: 38.722252, Longitude: -9.139337}
}

// TestOf shows that what clients send comes back the same, and that each thing that is wrong is refused by name.
func TestOf(t *testing.T) {
	want := good()
	one, err := features.Of(&want)
	if err != nil {
		t.Fatal(err)
	}
	if got := one.API("t-1"); got != want {
		t.Fatalf("%+v came back as %+v", want, got)
	}
	for name, c := range map[string]struct {
		change func(*api.Transaction)
		names  string
	}{
		"no id":          {func(t *api.Transaction) { t.ID = "" }, `"id"`},
		"a long id":      {func(t *api.Transaction) { t.ID = strings.Repeat("x", 65) }, `"id"`},
		"a hostile id":   {func(t *api.Transaction) { t.ID = "a' OR 1=1 --" }, `"id"`},
		"no time":        {func(t *api.Transaction) { t.Time = time.Time{} }, `"time"`},
		"a far time":     {func(t *api.Transaction) { t.Time = time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC) }, `"time"`},
		"no customer":    {func(t *api.Transaction) { t.Customer = 0 }, `"customer"`},
		"no amount":      {func(t *api.Transaction) { t.Amount = 0 }, `"amount"`},
		"a debt":         {func(t *api.Transaction) { t.Amount = -5 }, `"amount"`},
		"a fortune":      {func(t *api.Transaction) { t.Amount = features.MaxAmount + 1 }, `"amount"`},
		"a channel":      {func(t *api.Transaction) { t.Channel = "stripe" }, `"channel"`},
		"a category":     {func(t *api.Transaction) { t.Category = "<b>" }, `"category"`},
		"a country":      {func(t *api.Transaction) { t.Country = "pt" }, `"country"`},
		"north of north": {func(t *api.Transaction) { t.Latitude = 90.1 }, `"latitude"`},
	} {
		bad := good()
		c.change(&bad)
		if _, err := features.Of(&bad); err == nil || !strings.Contains(err.Error(), c.names) {
			t.Errorf("%s: %v, want a refusal that says %s", name, err, c.names)
		}
	}
}

// FuzzOf sends any JSON. What is accepted can be scored, and comes back within the rounding of its numbers.
func FuzzOf(f *testing.F) {
	text, err := json.Marshal(good())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"id":"x","time":"2026-01-01T00:00:00Z","amount":1e30}`))
	f.Add([]byte(`{"latitude":1e308}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var in api.Transaction
		if json.Unmarshal(text, &in) != nil {
			return
		}
		one, err := features.Of(&in)
		if err != nil {
			return
		}
		again := one.API(in.ID)
		two, err := features.Of(&again)
		if err != nil || one != two {
			t.Fatalf("%+v was accepted, and comes back as %+v: %v", one, two, err)
		}
		profile := make([]float32, features.Count)
		features.New().Observe(&one, profile)
	})
}
