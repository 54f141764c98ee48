// Package frontend is the front-end web server of the fraud application: it stands where a site's gateway hands traffic over. It has the certificate, serves the static pages, limits what one address may
// ask, and passes the rest to application servers: each customer's transactions to the same one as long as that answers, and to another when it does not.
package frontend

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/picket-ml/picket/examples/fraud/api"
)

// Options say what a Server does. The zero value of a field takes its default where one is named.
type Options struct {
	// Applications are the application servers: unix:/path or host:port.
	Applications []string
	// Pages serves the static files below /; nil serves none.
	Pages http.Handler
	// PerSecond is how many requests one address may send a second, and Burst how many at once. 200 and 400 where they are 0; below 0 there is no limit.
	PerSecond float64
	Burst     int
	// Logins is how many logins one address may try a minute. 10 where it is 0.
	Logins int
	// Outstanding is how many requests may be under way. 2048 where it is 0.
	Outstanding int
	// Timeout is how long an application server may take for an answer, streams excepted. 15 s where it is 0.
	Timeout time.Duration
	Log     *slog.Logger
}

const (
	maxBody     = 16 << 10
	checkEvery  = 500 * time.Millisecond
	checkWithin = time.Second
	// writeWithin is how long a client may take to read an answer. It begins with the request, and is more than an application server may take.
	writeWithin = 30 * time.Second
)

// Server is the front-end.
type Server struct {
	o        Options
	log      *slog.Logger
	backends []*backend
	limits   *limits
	logins   *limits
	places   chan struct{}
	proxy    *httputil.ReverseProxy
	seed     maphash.Seed
	next     atomic.Uint32
	stop     context.CancelFunc
	workers  sync.WaitGroup
}

// backend is an application server.
type backend struct {
	name      string
	transport *http.Transport
	healthy   atomic.Bool
	under     atomic.Int64 // requests under way
}

// New starts to look after the application servers. The caller closes the Server.
func New(o Options) (*Server, error) {
	if len(o.Applications) == 0 {
		return nil, errors.New("starting the front-end: it needs at least one application server")
	}
	o.PerSecond, o.Burst = cmp.Or(o.PerSecond, 200), cmp.Or(o.Burst, 400)
	o.Logins, o.Outstanding, o.Timeout = cmp.Or(o.Logins, 10), cmp.Or(o.Outstanding, 2048), cmp.Or(o.Timeout, 15*time.Second)
	if o.Log == nil {
		o.Log = slog.Default()
	}
	s := &Server{o: o, log: o.Log, limits: newLimits(o.PerSecond, o.Burst), logins: newLimits(float64(o.Logins)/60, o.Logins), places: make(chan struct{}, o.Outstanding), seed: maphash.MakeSeed()}
	for _, address := range o.Applications {
		b, err := newBackend(address, o)
		if err != nil {
			return nil, err
		}
		s.backends = append(s.backends, b)
	}
	s.proxy = &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = "http", "application"
			p.Out.Host = p.In.Host // for the comparison with Origin
			p.SetXForwarded()      // in place of what the client may have said
		},
		Transport:    balanced{s},
		BufferPool:   &buffers{},
		ErrorHandler: s.unavailable,
		ErrorLog:     slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
	background, stop := context.WithCancel(context.Background())
	s.stop = stop
	for _, b := range s.backends {
		s.check(background, b)
		s.workers.Go(func() { s.watch(background, b) })
	}
	return s, nil
}

func newBackend(address string, o Options) (*backend, error) {
	network := "tcp"
	target := address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, target = "unix", path
	} else if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, fmt.Errorf("starting the front-end: %q is neither unix:/path nor host:port", address)
	}
	dialer := net.Dialer{Timeout: 2 * time.Second}
	return &backend{name: address, transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, target)
		},
		MaxIdleConns:          o.Outstanding,
		MaxIdleConnsPerHost:   o.Outstanding,
		IdleConnTimeout:       time.Minute,
		ResponseHeaderTimeout: o.Timeout,
		DisableCompression:    true,
	}}, nil
}

// Close ends what watches the application servers. The HTTP server in front must have been shut down before.
func (s *Server) Close() {
	s.stop()
	s.workers.Wait()
	for _, b := range s.backends {
		b.transport.CloseIdleConnections()
	}
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	address := addressOf(r.RemoteAddr)
	if !s.limits.allow(address) || r.URL.Path == api.PathLogin && !s.logins.allow(address) {
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusTooManyRequests, "too many requests from this address; try again in a second")
		return
	}
	if !strings.HasPrefix(r.URL.Path, "/api/") && r.URL.Path != api.PathHealth {
		s.page(w, r)
		return
	}
	select {
	case s.places <- struct{}{}:
		defer func() { <-s.places }()
	default:
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusServiceUnavailable, "too many requests are under way; try again in a second")
		return
	}
	var body []byte
	if r.Body != nil && r.Body != http.NoBody {
		// All of it, so that it can be sent to another application server when one has gone.
		var err error
		if body, err = read(w, r); err != nil {
			var large *http.MaxBytesError
			if errors.As(err, &large) {
				refuse(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is longer than %d bytes", maxBody))
			} else {
				refuse(w, http.StatusBadRequest, "the body could not be read")
			}
			return
		}
	}
	switch {
	case r.Method == http.MethodPost && r.URL.Path == api.PathTransactions:
		s.pass(w, r, address, body)
		return
	case r.URL.Path == api.PathStream:
		w = &patient{w, http.NewResponseController(w)}
	}
	if body != nil {
		r.Body, r.ContentLength, r.TransferEncoding = http.NoBody, int64(len(body)), nil // send has the body
		r = r.WithContext(context.WithValue(r.Context(), bodyKey{}, body))
	}
	s.proxy.ServeHTTP(w, r)
}

type bodyKey struct{}

// read reads a body, into memory of its size where that is said.
func read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength < 0 || r.ContentLength > maxBody {
		return io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	}
	body := make([]byte, r.ContentLength)
	_, err := io.ReadFull(r.Body, body)
	return body, err
}

var (
	transactions = &url.URL{Scheme: "http", Host: "application", Path: api.PathTransactions}
	// asked are the headers of a transaction that the application looks at, and answered those of its answer.
	asked    = canonical("Authorization", "Content-Type", "Cookie", "Origin", "Sec-Fetch-Site", api.HeaderCSRF)
	answered = canonical("Content-Type", "Content-Length", "Cache-Control", "Retry-After", api.HeaderLatency)
)

func canonical(names ...string) []string {
	for i := range names {
		names[i] = http.CanonicalHeaderKey(names[i])
	}
	return names
}

// pass does for a transaction what the proxy does for everything else, at half the price: there is nothing to upgrade, to stream or to rewrite.
func (s *Server) pass(w http.ResponseWriter, r *http.Request, address netip.Addr, body []byte) {
	out := (&http.Request{
		Method: http.MethodPost, URL: transactions, Host: r.Host, // for the comparison with Origin
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: make(http.Header, len(asked)+2),
	}).WithContext(r.Context())
	for _, name := range asked {
		if values := r.Header[name]; values != nil {
			out.Header[name] = values
		}
	}
	out.Header["User-Agent"] = nil // none of ours
	out.Header["X-Forwarded-For"] = []string{address.String()}
	answer, err := s.send(out, body)
	if err != nil {
		s.unavailable(w, r, err)
		return
	}
	defer answer.Body.Close()
	header := w.Header()
	for _, name := range answered {
		if values := answer.Header[name]; values != nil {
			header[name] = values
		}
	}
	w.WriteHeader(answer.StatusCode)
	_, _ = io.Copy(w, answer.Body) // whoever is gone, on either side, asks again
}

// patient lets a stream last for as long as its reader reads: each write has the time that the server gives an answer.
type patient struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (p *patient) Write(b []byte) (int, error) {
	if err := p.control.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil {
		return 0, err
	}
	return p.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (p *patient) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// page serves a static file.
func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	if s.o.Pages == nil || r.Method != http.MethodGet && r.Method != http.MethodHead {
		refuse(w, http.StatusNotFound, "there is nothing at this path, or not for this method")
		return
	}
	s.o.Pages.ServeHTTP(w, r)
}

// headers are on every answer; pages replace some by their own. Answers share the values, which nobody changes in place.
var headers = http.Header{
	"Strict-Transport-Security":    {"max-age=31536000; includeSubDomains"},
	"Content-Security-Policy":      {"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"}, // an answer of the API is no page
	"X-Content-Type-Options":       {"nosniff"},
	"X-Frame-Options":              {"DENY"},
	"Referrer-Policy":              {"no-referrer"},
	"Permissions-Policy":           {"camera=(), microphone=(), geolocation=(), payment=()"},
	"Cross-Origin-Opener-Policy":   {"same-origin"},
	"Cross-Origin-Resource-Policy": {"same-origin"},
}

func secure(h http.Header) { maps.Copy(h, headers) }

func refuse(w http.ResponseWriter, status int, sentence string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(api.Error{Sentence: sentence}) // a client that is gone needs no answer
}

// unavailable answers when no application server did.
func (s *Server) unavailable(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() == nil {
		s.log.Warn("no application server answered", "path", r.URL.Path, "error", err)
	}
	w.Header().Set("Retry-After", "1")
	refuse(w, http.StatusServiceUnavailable, "no application server answers; send the same again in a second")
}

// balanced sends a request to an application server, and to the next one if that one cannot be reached or goes away.
type balanced struct{ s *Server }

func (b balanced) RoundTrip(r *http.Request) (*http.Response, error) {
	body, _ := r.Context().Value(bodyKey{}).([]byte)
	return b.s.send(r, body)
}

// send sends a request with a body, which may be nil.
func (s *Server) send(r *http.Request, body []byte) (*http.Response, error) {
	var failed error
	tried := make([]*backend, 0, 8)
	for range s.backends {
		to := s.choose(body, tried)
		one := r
		if len(tried) > 0 { // the transport may still look at the one before
			one = r.Clone(r.Context())
		}
		if len(body) > 0 {
			one.Body, one.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		}
		tried = append(tried, to)
		to.under.Add(1)
		answer, err := to.transport.RoundTrip(one)
		if err == nil {
			answer.Body = &counted{answer.Body, to, sync.Once{}}
			return answer, nil
		}
		to.under.Add(-1)
		failed = errors.Join(failed, fmt.Errorf("%s: %w", to.name, err))
		if r.Context().Err() != nil || !repeatable(r) {
			break
		}
		to.healthy.Store(false) // until it is looked at again
	}
	return nil, failed
}

// repeatable tells whether a request may be sent twice. A transaction may: there is one decision for its id.
func repeatable(r *http.Request) bool {
	return r.Method == http.MethodGet || r.Method == http.MethodPost && r.URL.Path == api.PathTransactions
}

// counted takes a request off its application server when the answer was read.
type counted struct {
	io.ReadCloser
	from *backend
	once sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() { c.from.under.Add(-1) })
	return c.ReadCloser.Close()
}

// choose picks an application server that was not tried: the customer's own, by rendezvous hashing over the healthy ones, or the one with the least to do.
func (s *Server) choose(body []byte, tried []*backend) *backend {
	if len(s.backends) == 1 {
		return s.backends[0]
	}
	customer := customerOf(body)
	var best *backend
	var bestRank uint64
	var bestHealthy bool
	offset := int(s.next.Add(1))
	for i := range s.backends {
		b := s.backends[(i+offset)%len(s.backends)]
		if slices.Contains(tried, b) {
			continue
		}
		healthy := b.healthy.Load()
		rank := ^uint64(b.under.Load())
		if customer != "" {
			rank = maphash.String(s.seed, customer+"@"+b.name)
		}
		if best == nil || healthy && !bestHealthy || healthy == bestHealthy && rank > bestRank {
			best, bestRank, bestHealthy = b, rank, healthy
		}
	}
	return best
}

// customerOf finds the digits after "customer" without reading the JSON around them. Whoever writes it in another way gets another server, and the same decision.
func customerOf(body []byte) string {
	const key = `"customer":`
	i := bytes.Index(body, []byte(key))
	if i < 0 {
		return ""
	}
	rest := bytes.TrimLeft(body[i+len(key):], " ")
	n := 0
	for n < len(rest) && n < 10 && '0' <= rest[n] && rest[n] <= '9' {
		n++
	}
	return string(rest[:n])
}

// watch looks after an application server.
func (s *Server) watch(ctx context.Context, b *backend) {
	every := time.NewTicker(checkEvery)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
			s.check(ctx, b)
		}
	}
}

func (s *Server) check(ctx context.Context, b *backend) {
	ctx, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	r := (&http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "http", Host: "application", Path: api.PathHealth}, Header: http.Header{}}).WithContext(ctx)
	answer, err := b.transport.RoundTrip(r)
	healthy := err == nil && answer.StatusCode == http.StatusOK
	if err == nil {
		_ = answer.Body.Close() // nothing in it counts
		if !healthy {
			err = errors.New("status " + strconv.Itoa(answer.StatusCode))
		}
	}
	if b.healthy.Swap(healthy) != healthy {
		s.log.Info("an application server changed", "application", b.name, "healthy", healthy, "error", err)
	}
}

// buffers are what bodies are copied through.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if one, ok := b.pool.Get().(*[]byte); ok {
		return *one
	}
	return make([]byte, 16<<10)
}

func (b *buffers) Put(one []byte) { b.pool.Put(&one) }
