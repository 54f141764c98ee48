package edge

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// Backend answers the calls. An *Error is passed on to the caller, any other is logged,
// and the caller learns that something went wrong.
type Backend interface {
	Registration(ctx context.Context, d Device) (*Registration, error)
	Heartbeat(ctx context.Context, h *Heartbeat) error
	Deployments(ctx context.Context, d Device) (*Deployments, error)
}

// Credentials are who may call: secrets by access key, and which devices each may be.
type Credentials interface {
	// Secret is that of a key.
	Secret(key string) (secret string, known bool)
	// May tells whether the key may speak for the device.
	May(key, device string) bool
}

// Handler serves the API over HTTP.
type Handler struct {
	backend     Backend
	credentials Credentials
	log         *slog.Logger
	now         func() time.Time
}

// NewHandler makes one. now is time.Now, or a test's.
func NewHandler(b Backend, c Credentials, log *slog.Logger, now func() time.Time) *Handler {
	if now == nil {
		now = time.Now
	}
	return &Handler{b, c, log, now}
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out, err := h.answer(r)
	if err != nil {
		failed := &Error{}
		if !errors.As(err, &failed) {
			h.log.Error("answering a device", "call", r.URL.Path, "error", err)
			failed = &Error{http.StatusInternalServerError, "InternalServiceException", "the fleet's server could not do it; its log says why"}
		}
		w.Header().Set("X-Amzn-Errortype", failed.Type)
		write(w, failed.Status, map[string]string{"Message": failed.Message})
		return
	}
	write(w, http.StatusOK, out)
}

func write(w http.ResponseWriter, status int, document any) {
	data, err := json.Marshal(document)
	if err != nil {
		status, data = http.StatusInternalServerError, []byte(`{"Message":"the answer cannot be written"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(data) // who has left does not want it
}

func (h *Handler) answer(r *http.Request) (any, error) {
	switch r.URL.Path {
	case opRegistration, opHeartbeat, opDeployments:
	default:
		return nil, &Error{http.StatusNotFound, "UnknownOperationException", "there is no such call here"}
	}
	if r.Method != http.MethodPost {
		return nil, &Error{http.StatusMethodNotAllowed, "UnknownOperationException", "calls are made with POST"}
	}
	if r.ContentLength > maxBody {
		return nil, &Error{http.StatusRequestEntityTooLarge, "ValidationException", "the message is too large"}
	}
	// The signature covers the body, so it is read first; it is bounded.
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, &Error{http.StatusBadRequest, "ValidationException", "the message did not come whole"}
	}
	if len(body) > maxBody {
		return nil, &Error{http.StatusRequestEntityTooLarge, "ValidationException", "the message is too large"}
	}
	key, failed := verify(r, body, h.credentials.Secret, h.now())
	if failed != nil {
		return nil, failed
	}
	// Only who is known may have it decoded.
	switch r.URL.Path {
	case opHeartbeat:
		var in Heartbeat
		if err := errors.Join(decode(body, &in)); err != nil {
			return nil, badRequest(err)
		}
		if err := in.check(); err != nil {
			return nil, badRequest(err)
		}
		if err := h.may(key, in.Device); err != nil {
			return nil, err
		}
		return struct{}{}, h.backend.Heartbeat(r.Context(), &in)
	default:
		var in Device
		if err := decode(body, &in); err != nil {
			return nil, badRequest(err)
		}
		if err := in.check(); err != nil {
			return nil, badRequest(err)
		}
		if err := h.may(key, in); err != nil {
			return nil, err
		}
		if r.URL.Path == opRegistration {
			return h.backend.Registration(r.Context(), in)
		}
		return h.backend.Deployments(r.Context(), in)
	}
}

func (h *Handler) may(key string, d Device) error {
	if h.credentials.May(key, d.Name) {
		return nil
	}
	return &Error{http.StatusForbidden, "AccessDeniedException", "the key may not speak for the device " + strings.ToValidUTF8(d.Name, "?")}
}
