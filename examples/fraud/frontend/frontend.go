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
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
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
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	if !s.limits.allow(host) || r.URL.Path == api.PathLogin && !s.logins.allow(host) {
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
	if r.Body != nil && r.Body != http.NoBody {
		// All of it, so that it can be sent to another application server when one has gone.
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			var large *http.MaxBytesError
			if errors.As(err, &large) {
				refuse(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is longer than %d bytes", maxBody))
			} else {
				refuse(w, http.StatusBadRequest, "the body could not be read")
			}
			return
		}
		r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
		r = r.WithContext(context.WithValue(r.Context(), bodyKey{}, body))
	}
	s.proxy.ServeHTTP(w, r)
}

type bodyKey struct{}

// page serves a static file.
func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	if s.o.Pages == nil || r.Method != http.MethodGet && r.Method != http.MethodHead {
		refuse(w, http.StatusNotFound, "there is nothing at this path, or not for this method")
		return
	}
	s.o.Pages.ServeHTTP(w, r)
}

// secure sets the headers that every answer has.
func secure(h http.Header) {
	h.Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=(), payment=()")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}

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
	var failed error
	tried := make(map[*backend]bool, len(b.s.backends))
	for range b.s.backends {
		to := b.s.choose(body, tried)
		tried[to] = true
		one := r
		if body != nil && len(tried) > 1 { // the first one reads what the request has
			one = r.Clone(r.Context())
			one.Body = io.NopCloser(bytes.NewReader(body))
		}
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
func (s *Server) choose(body []byte, tried map[*backend]bool) *backend {
	customer := customerOf(body)
	var best *backend
	var bestRank uint64
	var bestHealthy bool
	offset := int(s.next.Add(1))
	for i := range s.backends {
		b := s.backends[(i+offset)%len(s.backends)]
		if tried[b] {
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
		s.log.Info("an application server changed", "server", b.name, "healthy", healthy, "error", err)
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
