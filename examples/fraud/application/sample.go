package application

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/picket-ml/picket/examples/fraud/api"
	"github.com/picket-ml/picket/examples/fraud/store"
)

// sample fills in the form of the terminal page: somebody who paid lately, pays again, in a way that the story says.
func (s *Server) sample(w http.ResponseWriter, r *http.Request) {
	records, _, err := s.o.Store.List(r.Context(), store.Query{Limit: 200, Verdict: api.Approve})
	if err != nil {
		s.sendError(w, err)
		return
	}
	if len(records) == 0 {
		refuse(w, http.StatusNotFound, "nobody has paid yet")
		return
	}
	record := records[rand.IntN(len(records))]
	t := record.Transaction.API(fmt.Sprintf("by-hand-%d", time.Now().UnixMicro()))
	t.Time = time.Now().UTC().Truncate(time.Millisecond)
	if s.o.AnyTime { // a simulation has its own clock
		t.Time = record.Transaction.API("").Time.Add(time.Hour)
	}
	story := r.FormValue("story")
	switch story {
	case "", "usual":
		story = "usual"
	case "large":
		t.Amount = min(40*t.Amount+50_000, 900_000)
		t.Category, t.Channel = "jewelry", api.Chip
	case "abroad":
		t.Country, t.Latitude, t.Longitude, t.Channel = "IS", 64.15, -21.94, api.Chip
		t.Category, t.Amount = "electronics", 3*t.Amount+20_000
	case "testing":
		t.Device, t.Channel, t.Category, t.Amount = 3_900_000_000+rand.Uint32N(1000), api.Online, "online", 100+rand.Int64N(200)
	default:
		refuse(w, http.StatusNotFound, "the stories are usual, large, abroad and testing")
		return
	}
	reply(w, api.Sample{Story: story, Transaction: t})
}
