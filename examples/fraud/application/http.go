package application

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/picket-ml/picket/examples/fraud/api"
	"github.com/picket-ml/picket/examples/fraud/features"
	"github.com/picket-ml/picket/examples/fraud/store"
)

// maxBody is the largest body of a request.
const maxBody = 16 << 10

// routes says what is served, and to whom.
func (s *Server) routes() {
	mux := http.NewServeMux()
	client := func(h http.HandlerFunc) http.HandlerFunc { return s.guarded(h, true) }
	analyst := func(h http.HandlerFunc) http.HandlerFunc { return s.guarded(h, false) }
	for pattern, h := range map[string]http.HandlerFunc{
		"POST " + api.PathTransactions: client(s.postTransaction),
		"POST " + api.PathChallenge:    client(s.postAnswer),
		"GET " + api.PathTransaction:   analyst(s.transactionPage),
		"POST " + api.PathTruth:        analyst(s.postTruth),
		"GET " + api.PathDecisions:     analyst(s.decisions),
		"GET " + api.PathStream:        analyst(s.stream),
		"GET " + api.PathStatistics:    analyst(func(w http.ResponseWriter, _ *http.Request) { reply(w, s.statistics()) }),
		"GET " + api.PathModel:         analyst(func(w http.ResponseWriter, _ *http.Request) { reply(w, s.modelState()) }),
		"POST " + api.PathModel:        analyst(s.postModel),
		"GET " + api.PathWAN:           analyst(func(w http.ResponseWriter, _ *http.Request) { reply(w, s.wan()) }),
		"POST " + api.PathWAN:          analyst(s.postWAN),
		"GET " + api.PathCapture:       analyst(s.capture),
		"POST " + api.PathLogin:        s.postLogin,
		"POST " + api.PathLogout:       analyst(s.postLogout),
		"GET " + api.PathSession:       analyst(s.session),
		"GET " + api.PathOrigin: func(w http.ResponseWriter, _ *http.Request) {
			reply(w, api.Origin{Version: s.o.ProgramVersion, Demo: s.o.Demo})
		},
		"GET " + api.PathHealth: s.health,
	} {
		mux.HandleFunc(pattern, h)
	}
	if s.o.Demo {
		mux.HandleFunc("GET "+api.PathOneTimeCode, analyst(s.oneTimeCode))
		mux.HandleFunc("GET "+api.PathSample, analyst(s.sample))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, "there is nothing at this path, or not for this method")
	})
	s.handler = mux
}

// reply sends a value as JSON.
func reply(w http.ResponseWriter, v any) { replyWith(w, http.StatusOK, v) }

func replyWith(w http.ResponseWriter, status int, v any) {
	text, err := json.Marshal(v)
	if err != nil { // of our own types; a number that is not one would be a mistake of ours
		status, text = http.StatusInternalServerError, []byte(`{"error":"the answer could not be written"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // a client that is gone needs no answer
}

func refuse(w http.ResponseWriter, status int, sentence string) {
	replyWith(w, status, api.Error{Sentence: sentence})
}

// read decodes a body of one JSON value without unknown fields.
func read(w http.ResponseWriter, r *http.Request, into any) bool {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil {
		if _, err = decoder.Token(); errors.Is(err, io.EOF) {
			return true
		}
		err = errors.New("something follows the value")
	}
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		refuse(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is longer than %d bytes", maxBody))
		return false
	}
	refuse(w, http.StatusBadRequest, "the body is not the JSON that this path takes: "+strings.TrimPrefix(err.Error(), "json: "))
	return false
}

// sendError answers with what went wrong.
func (s *Server) sendError(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, store.ErrNotFound):
		refuse(w, http.StatusNotFound, "there is no transaction of this id")
	case errors.Is(err, errOther), errors.Is(err, errPast), errors.Is(err, errNoChallenge):
		refuse(w, http.StatusConflict, err.Error())
	case errors.Is(err, errBusy), errors.Is(err, errDB):
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusServiceUnavailable, err.Error())
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		refuse(w, http.StatusServiceUnavailable, "the request ended before there was an answer")
	default:
		s.log.Error("a request failed", "error", err)
		refuse(w, http.StatusInternalServerError, "the request could not be answered; the log of the application says why")
	}
}

func (s *Server) postTransaction(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	var in api.Transaction
	if !read(w, r, &in) {
		return
	}
	t, err := features.Of(&in)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	if !s.o.AnyTime {
		if age := began.Sub(in.Time); age > features.Lateness || age < -time.Minute {
			refuse(w, http.StatusBadRequest, `reading the transaction: "time" must be at most a day ago and at most a minute ahead`)
			return
		}
	}
	d, err := s.decide(r.Context(), in.ID, &t)
	if err != nil {
		s.sendError(w, err)
		return
	}
	took := time.Since(began)
	s.stats.answered(took, d)
	w.Header().Set(api.HeaderLatency, strconv.FormatInt(took.Microseconds(), 10))
	reply(w, d)
}

func (s *Server) postAnswer(w http.ResponseWriter, r *http.Request) {
	var in api.Answer
	if !read(w, r, &in) {
		return
	}
	if len(in.Code) != 6 || strings.Trim(in.Code, "0123456789") != "" {
		refuse(w, http.StatusBadRequest, `reading the answer: "code" must be six digits`)
		return
	}
	record, err := s.answer(r.Context(), r.PathValue("id"), in.Code)
	if err != nil {
		s.sendError(w, err)
		return
	}
	reply(w, record.Decision.Decision)
}

// page is all there is about a transaction.
func (s *Server) page(ctx context.Context, id string) (*api.Page, error) {
	r, err := s.o.Store.Find(ctx, id)
	if err != nil {
		return nil, err
	}
	p := &api.Page{Entry: r.Entry(), Profile: []api.Feature{}}
	if r.Truth != nil {
		p.Labelled, p.By = &r.Truth.At, r.Truth.Analyst
	}
	if r.Decision != nil && len(r.Decision.Profile) == features.Count {
		for i, v := range r.Decision.Profile {
			f := api.Feature{Name: features.At(i).Name, Text: features.At(i).Text}
			if v == v { // not NaN
				f.Value = &v
			}
			p.Profile = append(p.Profile, f)
		}
	}
	return p, nil
}

func (s *Server) transactionPage(w http.ResponseWriter, r *http.Request) {
	p, err := s.page(r.Context(), r.PathValue("id"))
	if err != nil {
		s.sendError(w, err)
		return
	}
	reply(w, p)
}

func (s *Server) postTruth(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Fraud *bool `json:"fraud"`
	}
	if !read(w, r, &in) {
		return
	}
	if in.Fraud == nil {
		refuse(w, http.StatusBadRequest, `reading the ground truth: "fraud" must be true or false`)
		return
	}
	ctx, id := r.Context(), r.PathValue("id")
	record, err := s.o.Store.Find(ctx, id)
	if err != nil {
		s.sendError(w, err)
		return
	}
	if err := s.o.Store.SetTruth(ctx, id, store.Truth{Fraud: *in.Fraud, At: time.Now(), Analyst: who(ctx)}); err != nil {
		s.sendError(w, err)
		return
	}
	s.state.Label(&record.Transaction, *in.Fraud)
	s.tell(ctx, id)
	s.transactionPage(w, r)
}

func (s *Server) decisions(w http.ResponseWriter, r *http.Request) {
	q := store.Query{Limit: 50, Before: r.FormValue("before"), Verdict: api.Verdict(r.FormValue("verdict"))}
	if text := r.FormValue("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 500 {
			refuse(w, http.StatusBadRequest, `listing decisions: "limit" must be 1 to 500`)
			return
		}
		q.Limit = n
	}
	switch q.Verdict {
	case "", api.Approve, api.Challenge, api.Deny:
	default:
		refuse(w, http.StatusBadRequest, `listing decisions: "verdict" must be approve, challenge or deny`)
		return
	}
	if !store.IsPlace(q.Before) {
		refuse(w, http.StatusBadRequest, `listing decisions: "before" must be what an earlier list gave`)
		return
	}
	records, next, err := s.o.Store.List(r.Context(), q)
	if err != nil {
		s.sendError(w, err)
		return
	}
	list := api.Decisions{Entries: []api.Entry{}, Before: next}
	for _, one := range records {
		list.Entries = append(list.Entries, one.Entry())
	}
	reply(w, list)
}

func (s *Server) modelState() api.ModelState {
	_, scored := s.guard.Counts()
	state := api.ModelState{Scored: scored, Explained: s.o.Scorer.Explained(), Versions: []api.Version{}}
	if m := s.o.Scorer.Current(); m != nil {
		state.Current = m.Version
	}
	s.mu.Lock()
	state.Since = s.since
	s.mu.Unlock()
	for _, m := range s.o.Models {
		state.Versions = append(state.Versions, m.API())
	}
	return state
}

func (s *Server) postModel(w http.ResponseWriter, r *http.Request) {
	var in api.Swap
	if !read(w, r, &in) {
		return
	}
	m := s.model(in.Version)
	if m == nil {
		refuse(w, http.StatusNotFound, "there is no such version of the model")
		return
	}
	if s.o.Loader == nil {
		refuse(w, http.StatusConflict, "this application may not load models; the operator does it")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 30*time.Second)
	defer cancel()
	if err := s.use(ctx, m); err != nil {
		s.log.Error("another version could not be used", "version", m.Version, "error", err)
		refuse(w, http.StatusBadGateway, err.Error())
		return
	}
	s.log.Info("another version scores", "version", m.Version, "analyst", who(r.Context()))
	reply(w, s.modelState())
}

func (s *Server) wan() api.WAN {
	if s.o.Surroundings == nil {
		return api.WAN{}
	}
	return s.o.Surroundings.WAN()
}

func (s *Server) postWAN(w http.ResponseWriter, r *http.Request) {
	var in api.WAN
	if !read(w, r, &in) {
		return
	}
	if !s.wan().Switchable {
		refuse(w, http.StatusConflict, "there is no switch: the application was started without one")
		return
	}
	if err := s.o.Surroundings.SetWAN(in.Up); err != nil {
		s.sendError(w, err)
		return
	}
	s.log.Info("the WAN was switched", "up", in.Up, "analyst", who(r.Context()))
	reply(w, s.wan())
}

func (s *Server) capture(w http.ResponseWriter, r *http.Request) {
	if s.o.Surroundings == nil {
		reply(w, api.Capture{})
		return
	}
	c, err := s.o.Surroundings.Capture(r.Context())
	if err != nil {
		s.log.Debug("the state of capture is not known", "error", err)
		refuse(w, http.StatusServiceUnavailable, "picketd does not say what is captured; the figures are those from before")
		return
	}
	c.Told = s.told.Load()
	reply(w, c)
}

func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), time.Second)
	defer cancel()
	if err := s.o.Store.Ping(ctx); err != nil {
		refuse(w, http.StatusServiceUnavailable, "the database does not answer")
		return
	}
	reply(w, struct {
		Database string `json:"database"`
	}{s.o.Store.Name()})
}

func (s *Server) oneTimeCode(w http.ResponseWriter, r *http.Request) {
	customer, err := strconv.ParseUint(r.PathValue("customer"), 10, 32)
	if err != nil || customer == 0 {
		refuse(w, http.StatusNotFound, "there is no such customer")
		return
	}
	code, err := s.oneTime(uint32(customer), time.Now())
	if err != nil {
		s.sendError(w, err)
		return
	}
	reply(w, code)
}
