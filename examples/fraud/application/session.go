package application

import (
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/picket-ml/picket/examples/fraud/api"
	"github.com/picket-ml/picket/examples/fraud/store"
)

const (
	cookieName = "__Host-session"
	// A session ends after sessionLasts, or when nothing was asked for sessionIdle.
	sessionLasts = 8 * time.Hour
	sessionIdle  = 30 * time.Minute
	// iterations of PBKDF2 with SHA-256: OWASP's number.
	iterations = 600_000
	// A name whose password was wrong so often is not tried again for lockFor.
	maxFailures = 5
	lockFor     = 5 * time.Minute
)

var (
	errLogin  = errors.New("the name or the password is wrong")
	errLocked = errors.New("too many wrong passwords; try again in five minutes")
)

type contextKey struct{}

// who is the analyst of a request, or "client".
func who(ctx context.Context) string {
	if one, ok := ctx.Value(contextKey{}).(*store.Session); ok {
		return one.Analyst
	}
	return "client"
}

// guarded lets in analysts with a session, and clients with a key where client is true.
func (s *Server) guarded(h http.HandlerFunc, client bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if key, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok && client {
			// By its digest, so that how long the look-up takes says nothing about the key.
			if _, known := s.keys[sha256.Sum256([]byte(key))]; !known {
				refuse(w, http.StatusUnauthorized, "this key is not known")
				return
			}
			h(w, r)
			return
		}
		one, err := s.sessionOf(r)
		if errors.Is(err, store.ErrNotFound) {
			refuse(w, http.StatusUnauthorized, "log in first")
			return
		}
		if err != nil {
			s.sendError(w, err)
			return
		}
		if r.Method != http.MethodGet {
			if !sameOrigin(r) || subtle.ConstantTimeCompare([]byte(r.Header.Get(api.HeaderCSRF)), []byte(one.CSRF)) != 1 {
				refuse(w, http.StatusForbidden, "this request does not come from the page of this session: the header "+api.HeaderCSRF+" is missing or wrong")
				return
			}
		}
		h(w, r.WithContext(context.WithValue(r.Context(), contextKey{}, one)))
	}
}

// sameOrigin refuses requests that another site's page has sent. Programs send no Origin.
func sameOrigin(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return false
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host == r.Host
}

// sessionOf is the session of a request's cookie, or store.ErrNotFound.
func (s *Server) sessionOf(r *http.Request) (*store.Session, error) {
	cookie, err := r.Cookie(cookieName)
	if err != nil || len(cookie.Value) > 128 {
		return nil, store.ErrNotFound
	}
	digest := sha256.Sum256([]byte(cookie.Value))
	one, err := s.o.Store.Session(r.Context(), digest[:])
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if now.After(one.Expires) || now.Sub(one.Used) > sessionIdle {
		return nil, store.ErrNotFound
	}
	if now.Sub(one.Used) > time.Minute { // not a write for each request
		if err := s.o.Store.UseSession(r.Context(), digest[:], now); err != nil {
			return nil, err
		}
	}
	return &one, nil
}

// logins slows down who guesses passwords: one is hashed at a time, and a name is locked after some failures.
type logins struct {
	hashing  sync.Mutex
	mu       sync.Mutex
	failures map[string]failure
}

type failure struct {
	count int
	last  time.Time
}

// maxNames bounds the names that are remembered.
const maxNames = 10_000

func (l *logins) locked(name string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.failures[name]
	return f.count >= maxFailures && now.Sub(f.last) < lockFor
}

func (l *logins) failed(name string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failures == nil || len(l.failures) >= maxNames {
		l.failures = map[string]failure{}
	}
	f := l.failures[name]
	if now.Sub(f.last) > lockFor {
		f.count = 0
	}
	l.failures[name] = failure{f.count + 1, now}
}

func (l *logins) succeeded(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.failures, name)
}

// NewAnalyst is an analyst with a password, to be stored.
func NewAnalyst(name, password string) (store.Analyst, error) {
	if len(name) < 1 || len(name) > 64 || strings.ContainsFunc(name, func(c rune) bool { return c < '!' || c > '~' }) {
		return store.Analyst{}, errors.New("making an analyst: the name must have 1 to 64 visible ASCII characters")
	}
	if len(password) < 12 || len(password) > 256 {
		return store.Analyst{}, errors.New("making an analyst: the password must have 12 to 256 characters")
	}
	a := store.Analyst{Name: name, Salt: random(16), Iterations: iterations}
	var err error
	if a.Hash, err = pbkdf2.Key(sha256.New, password, a.Salt, a.Iterations, sha256.Size); err != nil {
		return store.Analyst{}, fmt.Errorf("making an analyst: %w", err)
	}
	return a, nil
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails
	return b
}

func token() string { return base64.RawURLEncoding.EncodeToString(random(32)) }

// check tells whether the password is the analyst's. It takes the same time where there is no such analyst.
func (s *Server) check(ctx context.Context, in api.Login) error {
	if len(in.User) > 64 || len(in.Password) > 256 {
		return errLogin
	}
	if s.logins.locked(in.User, time.Now()) {
		return errLocked
	}
	a, err := s.o.Store.Analyst(ctx, in.User)
	known := err == nil
	if errors.Is(err, store.ErrNotFound) {
		a = store.Analyst{Salt: make([]byte, 16), Iterations: iterations, Hash: make([]byte, sha256.Size)}
	} else if err != nil {
		return err
	}
	s.logins.hashing.Lock()
	hash, err := pbkdf2.Key(sha256.New, in.Password, a.Salt, a.Iterations, len(a.Hash))
	s.logins.hashing.Unlock()
	if err != nil {
		return fmt.Errorf("checking a password: %w", err)
	}
	if subtle.ConstantTimeCompare(hash, a.Hash) != 1 || !known {
		s.logins.failed(in.User, time.Now())
		return errLogin
	}
	s.logins.succeeded(in.User)
	return nil
}

func (s *Server) postLogin(w http.ResponseWriter, r *http.Request) {
	var in api.Login
	if !read(w, r, &in) {
		return
	}
	if !sameOrigin(r) {
		refuse(w, http.StatusForbidden, "this request comes from another site")
		return
	}
	switch err := s.check(r.Context(), in); {
	case errors.Is(err, errLogin):
		s.log.Warn("a login was refused", "analyst", in.User)
		refuse(w, http.StatusUnauthorized, err.Error())
		return
	case errors.Is(err, errLocked):
		refuse(w, http.StatusTooManyRequests, err.Error())
		return
	case err != nil:
		s.sendError(w, err)
		return
	}
	now, secret := time.Now(), token()
	digest := sha256.Sum256([]byte(secret))
	one := store.Session{Digest: digest[:], Analyst: in.User, CSRF: token(), Used: now, Expires: now.Add(sessionLasts)}
	if err := s.o.Store.AddSession(r.Context(), one); err != nil {
		s.sendError(w, err)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: secret, Path: "/", MaxAge: int(sessionLasts.Seconds()), Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	reply(w, s.shown(&one))
}

func (s *Server) shown(one *store.Session) api.Session {
	return api.Session{User: one.Analyst, CSRF: one.CSRF, Expires: one.Expires.UTC(), Demo: s.o.Demo}
}

func (s *Server) session(w http.ResponseWriter, r *http.Request) {
	reply(w, s.shown(r.Context().Value(contextKey{}).(*store.Session)))
}

func (s *Server) postLogout(w http.ResponseWriter, r *http.Request) {
	one := r.Context().Value(contextKey{}).(*store.Session)
	if err := s.o.Store.EndSession(r.Context(), one.Digest); err != nil {
		s.sendError(w, err)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	w.WriteHeader(http.StatusNoContent)
}
