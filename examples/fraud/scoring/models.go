package scoring

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/picket-ml/picket/examples/fraud/api"
	"github.com/picket-ml/picket/examples/fraud/features"
	agentapi "github.com/picket-ml/picket/internal/api/agent"
)

// Model is a version of the model: what train.py writes beside it.
type Model struct {
	Version       string             `json:"version"`
	Trained       time.Time          `json:"trained"`
	Features      []string           `json:"features"`
	ChallengeFrom float32            `json:"challenge_from"`
	DenyFrom      float32            `json:"deny_from"`
	Figures       map[string]float64 `json:"figures"`

	path string // absolute, of the folder with the model
}

// Served is the name under which Picket serves this version. Each has a name of its own, so that the application always knows which one gave a score.
func (m *Model) Served() string { return "fraud-" + m.Version }

// Path is the folder with the model.
func (m *Model) Path() string { return m.path }

// Verdict is what a score means by this version's thresholds.
func (m *Model) Verdict(score float32) api.Verdict {
	switch {
	case score >= m.DenyFrom:
		return api.Deny
	case score >= m.ChallengeFrom:
		return api.Challenge
	}
	return api.Approve
}

// API is the version in the form of clients.
func (m *Model) API() api.Version {
	return api.Version{Version: m.Version, Trained: m.Trained, Challenge: m.ChallengeFrom, Deny: m.DenyFrom, Figures: m.Figures}
}

// ReadModels reads the versions in a folder, the lowest first: VERSION.json beside the folder VERSION.
func ReadModels(dir string) ([]*Model, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("reading models: %w", err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, fmt.Errorf("reading models: %w", err)
	}
	var list []*Model
	for _, name := range names {
		m, err := readModel(name)
		if err != nil {
			return nil, fmt.Errorf("reading the model of %s: %w", name, err)
		}
		list = append(list, m)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("reading models: %s has no VERSION.json; train.py writes one", dir)
	}
	slices.SortFunc(list, func(a, b *Model) int {
		if len(a.Version) != len(b.Version) {
			return len(a.Version) - len(b.Version)
		}
		return strings.Compare(a.Version, b.Version)
	})
	return list, nil
}

func readModel(name string) (*Model, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var m Model
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, err
	}
	m.path = strings.TrimSuffix(name, ".json")
	if m.Version == "" || filepath.Base(m.path) != m.Version {
		return nil, fmt.Errorf("it describes version %q, and not the one that its name says", m.Version)
	}
	if !slices.Equal(m.Features, features.Names()) {
		return nil, errors.New("it was trained for other features than this program makes; train it again")
	}
	if !(0 <= m.ChallengeFrom && m.ChallengeFrom <= m.DenyFrom && m.DenyFrom <= 1) {
		return nil, fmt.Errorf("its thresholds %v and %v are not in order", m.ChallengeFrom, m.DenyFrom)
	}
	if _, err := os.Stat(m.path); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no folder %s", m.path)
	}
	return &m, nil
}

// Loader has Picket load models.
type Loader struct{ conn *grpc.ClientConn }

// NewLoader is for the daemon whose control.sock is at path, or another socket that may load.
func NewLoader(path string) (*Loader, error) {
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("preparing to connect to %s: %w", path, err)
	}
	return &Loader{conn}, nil
}

// Load has a version loaded. It is no failure when it is loaded already.
func (l *Loader) Load(ctx context.Context, m *Model) error {
	l.conn.ResetConnectBackoff() // a daemon that is back should not wait for us
	_, err := agentapi.NewAgentClient(l.conn).LoadModel(ctx, &agentapi.LoadModelRequest{Name: m.Served(), Url: m.path}, grpc.WaitForReady(true))
	if err != nil && status.Code(err) != codes.AlreadyExists {
		return fmt.Errorf("loading version %s: %s", m.Version, status.Convert(err).Message())
	}
	return nil
}

// Close ends the connection.
func (l *Loader) Close() error { return l.conn.Close() }
