package oip

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/picket-ml/picket/engine"
	oipapi "github.com/picket-ml/picket/internal/api/oip"
)

// httpStatus is what HTTP calls a code.
func httpStatus(c codes.Code) int {
	switch c {
	case codes.InvalidArgument:
		return http.StatusBadRequest
	case codes.NotFound:
		return http.StatusNotFound
	case codes.AlreadyExists, codes.FailedPrecondition:
		return http.StatusConflict
	case codes.PermissionDenied:
		return http.StatusForbidden
	case codes.ResourceExhausted:
		return http.StatusTooManyRequests
	case codes.DeadlineExceeded:
		return http.StatusGatewayTimeout
	case codes.Canceled:
		return 499 // as others say it; the client is not there to see it
	case codes.Unavailable:
		return http.StatusServiceUnavailable
	case codes.Unimplemented:
		return http.StatusNotImplemented
	}
	return http.StatusInternalServerError
}

// statusError is an error with an HTTP status that no code stands for.
type statusError struct {
	status int
	error
}

func (e *statusError) Unwrap() error { return e.error }

// handler serves everything that is HTTP.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	route := func(pattern, doing string, answer func(w http.ResponseWriter, r *http.Request) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := answer(w, r); err != nil {
				s.fail(w, doing, r.PathValue("model"), err)
			}
		})
	}
	// Health checks and scrapes have no traces: they are many, and nobody looks for them.
	traced := func(pattern, doing string, change bool, answer func(w http.ResponseWriter, r *http.Request) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r, span := s.tracer.HTTP(r, change)
			status, err := http.StatusOK, answer(w, r)
			if err != nil {
				status = s.fail(w, doing, r.PathValue("model"), err)
			}
			span.EndHTTP(status, err)
		})
	}
	ready := func(w http.ResponseWriter, _ *http.Request) error {
		if !s.Ready() {
			return fmt.Errorf("%w: no new requests are taken", engine.ErrClosed)
		}
		return writeJSON(w, map[string]bool{"ready": true})
	}
	live := func(w http.ResponseWriter, _ *http.Request) error { return writeJSON(w, map[string]bool{"live": true}) }
	route("GET /livez", "looking at the server", live)
	route("GET /readyz", "looking at the server", ready)
	route("GET /ping", "looking at the server", ready)
	route("GET /v2/health/live", "looking at the server", live)
	route("GET /v2/health/ready", "looking at the server", ready)
	route("GET /v2", "looking at the server", func(w http.ResponseWriter, _ *http.Request) error { return writeMessage(w, s.serverMetadata()) })
	route("GET /v2/{$}", "looking at the server", func(w http.ResponseWriter, _ *http.Request) error { return writeMessage(w, s.serverMetadata()) })
	for _, model := range []string{"/v2/models/{model}", "/v2/models/{model}/versions/{version}"} {
		route("GET "+model, "describing a model", s.describe(func(m *engine.Snapshot) proto.Message { return modelMetadata(m) }))
		route("GET "+model+"/config", "describing a model", s.describe(func(m *engine.Snapshot) proto.Message { return s.modelConfig(m) }))
		route("GET "+model+"/stats", "counting", s.httpStatistics)
		route("GET "+model+"/ready", "looking at a model", s.httpModelReady)
		traced("POST "+model+"/infer", "predicting", false, s.httpInfer)
	}
	route("GET /v2/models/stats", "counting", s.httpStatistics)
	route("POST /v2/repository/index", "listing models", s.httpIndex)
	traced("POST /v2/repository/models/{model}/load", "loading a model", true, s.httpLoad)
	traced("POST /v2/repository/models/{model}/unload", "unloading a model", true, s.httpUnload)
	s.routeSharedMemory(route)
	for path, err := range map[string]error{"/v2/trace/setting": errTrace, "/v2/models/{model}/trace/setting": errTrace, "/v2/logging": errLogLevel} {
		for _, method := range []string{"GET ", "POST "} {
			route(method+path, "changing a setting", func(http.ResponseWriter, *http.Request) error { return err })
		}
	}
	traced("POST /invocations", "predicting", false, s.invocations)
	route("POST /v2/models/{model}/truth", "keeping outcomes", s.truth)
	mux.Handle("GET /metrics", inOnePiece(s.metrics()))
	route("GET /openapi.yaml", "describing the interface", serveDescription)
	return &answerer{s, mux}
}

// answerer answers what no route takes in the protocol's own form.
type answerer struct {
	server *Server
	mux    *http.ServeMux
}

// ServeHTTP implements http.Handler.
func (a *answerer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		// net/http would say so where it says what clients do wrong, which nobody reads.
		if p := recover(); p != nil {
			a.server.log.Error("answering a request panicked", "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
			panic(http.ErrAbortHandler)
		}
	}()
	w = &reply{ResponseWriter: w, patience: a.server.limits.patience}
	if a.server.yielding.Load() {
		w.Header().Set("Connection", "close")
	}
	if r.ContentLength != 0 {
		// For what no handler reads of a body: net/http waits for it before the next
		// request. Where there is no body it notices clients that leave, and a
		// deadline would be one for the handler.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(a.server.limits.patience.For(0)))
	}
	h, pattern := a.mux.Handler(r)
	if pattern != "" {
		a.mux.ServeHTTP(w, r)
		return
	}
	// Why there is no route, and which methods there are, is what h would say.
	said := &kept{header: http.Header{}}
	h.ServeHTTP(said, r)
	if said.status >= 300 && said.status < 400 { // to the path without what makes it odd
		w.Header().Set("Location", said.header.Get("Location"))
		w.WriteHeader(said.status)
		return
	}
	if allow := said.header.Get("Allow"); allow != "" {
		w.Header().Set("Allow", allow)
		a.server.fail(w, "answering", "", &statusError{http.StatusMethodNotAllowed, fmt.Errorf("this path does not take %s; it takes %s", r.Method, allow)})
		return
	}
	a.server.fail(w, "answering", "", &statusError{http.StatusNotFound, errors.New("nothing is at this path; /openapi.yaml describes what there is")})
}

// kept is an answer that is not sent yet.
type kept struct {
	header http.Header
	status int // 0 where no handler has set any
	body   []byte
}

// Header implements http.ResponseWriter.
func (k *kept) Header() http.Header { return k.header }

// Write implements http.ResponseWriter.
func (k *kept) Write(b []byte) (int, error) {
	k.body = append(k.body, b...)
	return len(b), nil
}

// WriteHeader implements http.ResponseWriter.
func (k *kept) WriteHeader(status int) { k.status = status }

// inOnePiece sends the answers of h when h is done: how many it answers at a time
// is for those that it works for, and not for clients that do not read.
func inOnePiece(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := &kept{header: w.Header()}
		h.ServeHTTP(answer, r)
		w.Header().Set("Content-Length", strconv.Itoa(len(answer.body)))
		if answer.status != 0 {
			w.WriteHeader(answer.status)
		}
		_, _ = w.Write(answer.body) // a client that has left does not miss it
	})
}

// retryAfter is how many seconds a client should wait that was refused because
// the daemon is busy: what is queued is answered long before.
const retryAfter = "1"

// fail answers with an error, and returns the status.
func (s *Server) fail(w http.ResponseWriter, doing, model string, err error) (status int) {
	var known *statusError
	sentence := ""
	if errors.As(err, &known) {
		status, sentence = known.status, known.Error()
	} else {
		var code codes.Code
		code, sentence = s.explain(doing, model, err)
		status = httpStatus(code)
	}
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter)
	}
	body, err := json.Marshal(map[string]string{"error": sentence})
	if err != nil {
		body = []byte(`{"error":"the error cannot be written as JSON"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that has left does not miss it
	return status
}

func writeJSON(w http.ResponseWriter, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeBody(w, "application/json", body)
}

// writeMessage writes a message as JSON under the protocol's own names.
func writeMessage(w http.ResponseWriter, m proto.Message) error {
	return writeBody(w, "application/json", appendMessage(nil, m.ProtoReflect()))
}

// writeBody writes an answer in one piece.
func writeBody(w http.ResponseWriter, kind string, body []byte) error {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // a client that has left does not miss it
	return nil
}

// describe answers with what of says of a model.
func (s *Server) describe(of func(*engine.Snapshot) proto.Message) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		model, err := s.acquire(r.PathValue("model"), r.PathValue("version"))
		if err != nil {
			return err
		}
		defer model.Release()
		return writeMessage(w, of(model))
	}
}

func (s *Server) httpModelReady(w http.ResponseWriter, r *http.Request) error {
	model, err := s.acquire(r.PathValue("model"), r.PathValue("version"))
	if err != nil {
		return err
	}
	model.Release()
	if !s.Ready() {
		return fmt.Errorf("%w: no new requests are taken", engine.ErrClosed)
	}
	return writeJSON(w, map[string]any{"name": r.PathValue("model"), "ready": true})
}

func (s *Server) httpStatistics(w http.ResponseWriter, r *http.Request) error {
	out, err := s.statistics(r.PathValue("model"), r.PathValue("version"))
	if err != nil {
		return err
	}
	return writeMessage(w, out)
}

func (s *Server) httpIndex(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Ready bool `json:"ready"`
	}
	if err := s.readJSON(w, r, &in); err != nil {
		return err
	}
	body := []byte{'['}
	for i, m := range s.index(in.Ready).GetModels() {
		if i > 0 {
			body = append(body, ',')
		}
		body = appendMessage(body, m.ProtoReflect())
	}
	return writeBody(w, "application/json", append(body, ']'))
}

func (s *Server) httpLoad(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Parameters map[string]any `json:"parameters"`
	}
	if err := s.readJSON(w, r, &in); err != nil {
		return err
	}
	parameters := map[string]*oipapi.ModelRepositoryParameter{}
	for key, value := range in.Parameters {
		p := &oipapi.ModelRepositoryParameter{}
		if text, ok := value.(string); ok {
			p.ParameterChoice = &oipapi.ModelRepositoryParameter_StringParam{StringParam: text}
		}
		parameters[key] = p
	}
	if err := s.load(r.Context(), r.PathValue("model"), parameters); err != nil {
		return err
	}
	return writeJSON(w, struct{}{})
}

func (s *Server) httpUnload(w http.ResponseWriter, r *http.Request) error {
	var in struct{}
	if err := s.readJSON(w, r, &in); err != nil {
		return err
	}
	if err := s.unload(r.Context(), r.PathValue("model")); err != nil {
		return err
	}
	return writeJSON(w, struct{}{})
}

// routeSharedMemory adds the routes of the shared memory extensions.
func (s *Server) routeSharedMemory(route func(pattern, doing string, answer func(http.ResponseWriter, *http.Request) error)) {
	const system, cuda = "/v2/systemsharedmemory", "/v2/cudasharedmemory"
	status := func(w http.ResponseWriter, r *http.Request) error {
		list := []map[string]any{}
		err := s.regions.list(callerOf(r.Context()), r.PathValue("region"), func(name, key string, offset, size uint64) {
			list = append(list, map[string]any{"name": name, "key": key, "offset": offset, "byte_size": size})
		})
		if err != nil {
			return err
		}
		return writeJSON(w, list)
	}
	unregister := func(w http.ResponseWriter, r *http.Request) error {
		if err := s.regions.unregister(callerOf(r.Context()), r.PathValue("region")); err != nil {
			return err
		}
		return writeJSON(w, struct{}{})
	}
	register := func(w http.ResponseWriter, r *http.Request) error {
		var in struct {
			Key    string `json:"key"`
			Offset uint64 `json:"offset"`
			Size   uint64 `json:"byte_size"`
		}
		if err := s.readJSON(w, r, &in); err != nil {
			return err
		}
		if err := s.regions.register(callerOf(r.Context()), r.PathValue("region"), in.Key, in.Offset, in.Size); err != nil {
			return err
		}
		return writeJSON(w, struct{}{})
	}
	route("GET "+system+"/status", "listing shared memory", status)
	route("GET "+system+"/region/{region}/status", "listing shared memory", status)
	route("POST "+system+"/region/{region}/register", "registering shared memory", register)
	route("POST "+system+"/unregister", "unregistering shared memory", unregister)
	route("POST "+system+"/region/{region}/unregister", "unregistering shared memory", unregister)
	refuse := func(http.ResponseWriter, *http.Request) error { return errCUDA }
	for _, pattern := range []string{
		"GET " + cuda + "/status", "GET " + cuda + "/region/{region}/status", "POST " + cuda + "/region/{region}/register",
		"POST " + cuda + "/unregister", "POST " + cuda + "/region/{region}/unregister",
	} {
		route(pattern, "using shared memory", refuse)
	}
}
