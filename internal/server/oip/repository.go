package oip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/picket-ml/picket/engine"
	oipapi "github.com/picket-ml/picket/internal/api/oip"
	"github.com/picket-ml/picket/internal/server/failure"
	"github.com/picket-ml/picket/internal/server/local"
)

// maxURLBytes is the kernel's limit for paths.
const maxURLBytes = 4096

var errOneRepository = fmt.Errorf("%w: this server has one repository, which has no name: leave repository_name empty", engine.ErrInvalidInput)

// index lists the loaded models, and those that the operator declared.
func (s *Server) index(readyOnly bool) *oipapi.RepositoryIndexResponse {
	out := &oipapi.RepositoryIndexResponse{}
	loaded := map[string]bool{}
	for _, d := range s.engine.List() {
		loaded[d.Name] = true
		out.Models = append(out.Models, &oipapi.RepositoryIndexResponse_ModelIndex{Name: d.Name, Version: versionOf(d.Version), State: "READY"})
	}
	if readyOnly {
		return out
	}
	for _, d := range s.declared() {
		if !loaded[d.Name] {
			out.Models = append(out.Models, &oipapi.RepositoryIndexResponse_ModelIndex{
				Name: d.Name, State: "UNAVAILABLE", Reason: failure.ValidText(failure.Shorten(d.Reason, failure.MaxSentence)),
			})
		}
	}
	return out
}

// checkControl fails with failure.ErrDenied for callers who may not load and unload models.
func checkControl(ctx context.Context) error {
	if c := connOf(ctx); c != nil {
		return c.Access().CheckControl()
	}
	return new(local.Access).CheckControl()
}

// load loads a model in the place of the one that has its name, if any.
func (s *Server) load(ctx context.Context, name string, parameters map[string]*oipapi.ModelRepositoryParameter) error {
	if err := checkControl(ctx); err != nil {
		return err
	}
	if err := engine.CheckName(name); err != nil {
		return err
	}
	url, options, err := s.locate(name, parameters)
	if err != nil {
		return err
	}
	// Who asked is for the audit of what code the daemon was made to run.
	s.log.LogAttrs(ctx, slog.LevelInfo, "a client asks for a model to be loaded",
		slog.String("model", name), slog.String("url", url), callerAttr(ctx))
	if _, err := s.engine.Replace(ctx, name, url, options); err != nil {
		if failure.Code(err) == codes.Internal {
			// The engine has logged the reason.
			return &toldError{codes.Internal, "loading the model failed; the reason is in the daemon's log"}
		}
		return err
	}
	return nil
}

// locate is where the model lies and how it is to be run. Errors wrap
// engine.ErrInvalidInput or engine.ErrNotFound.
func (s *Server) locate(name string, parameters map[string]*oipapi.ModelRepositoryParameter) (string, engine.ModelOptions, error) {
	for key := range parameters {
		if key == "config" || strings.HasPrefix(key, "file:") {
			return "", engine.ModelOptions{}, fmt.Errorf("%w: the parameter %s is not supported: put the model into a folder of the host, and how to run it into the daemon's configuration", engine.ErrInvalidInput, failure.Clip(key))
		}
	}
	if value, ok := parameters["url"]; ok {
		url, ok := value.GetParameterChoice().(*oipapi.ModelRepositoryParameter_StringParam)
		if !ok || url.StringParam == "" || len(url.StringParam) > maxURLBytes {
			return "", engine.ModelOptions{}, fmt.Errorf("%w: the parameter url must be the path of the model's folder", engine.ErrInvalidInput)
		}
		return url.StringParam, engine.ModelOptions{}, nil
	}
	for _, d := range s.declared() {
		if d.Name == name {
			return d.Path, d.Options, nil
		}
	}
	for _, root := range s.roots {
		path := filepath.Join(root, name) // a name has neither slashes nor dots
		// Only to find the right one: whether it may be opened is decided when it is.
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			return path, engine.ModelOptions{}, nil
		}
	}
	return "", engine.ModelOptions{}, fmt.Errorf("%w: no model is declared as %q, and no folder of that name is below model_roots: name its folder with the parameter url", engine.ErrNotFound, name)
}

// unload removes a model.
func (s *Server) unload(ctx context.Context, name string) error {
	if err := checkControl(ctx); err != nil {
		return err
	}
	if len(name) > maxNameBytes {
		return fmt.Errorf("%w: no model is loaded under a name of more than %d bytes", engine.ErrNotFound, maxNameBytes)
	}
	if err := s.engine.Unload(ctx, name); err != nil {
		if errors.Is(err, engine.ErrNotFound) {
			return fmt.Errorf("%w: no model is loaded as %q", engine.ErrNotFound, name)
		}
		return err
	}
	s.log.LogAttrs(ctx, slog.LevelInfo, "a client had a model unloaded", slog.String("model", name), callerAttr(ctx))
	return nil
}
