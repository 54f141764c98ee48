package serve

import (
	"bufio"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/picket-ml/picket/internal/durable"
	"github.com/picket-ml/picket/internal/fleet"
)

const (
	maxCredentialsBytes = 64 << 20
	credentialsLooks    = 2 * time.Second
	anyDevice           = "*"
)

// Credentials are who may call the server: a file with a line for each key, which has
// the access key, the secret, and the device it is for, or * for all. It is read again
// when it changes.
type Credentials struct {
	path string
	log  *slog.Logger

	mu     sync.Mutex
	looked time.Time
	was    fs.FileInfo
	keys   map[string]credential
}

type credential struct{ secret, device string }

// OpenCredentials reads the file, which others than its owner must not be able to read.
func OpenCredentials(path string, log *slog.Logger) (*Credentials, error) {
	c := &Credentials{path: path, log: log}
	return c, c.read()
}

func (c *Credentials) read() error {
	info, err := os.Stat(c.path)
	if err != nil {
		return fmt.Errorf("reading the credentials of devices: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("reading the credentials of devices, %s: others than its owner may read it; run chmod 600 on it", c.path)
	}
	if info.Size() > maxCredentialsBytes {
		return fmt.Errorf("reading the credentials of devices, %s: it is far too large", c.path)
	}
	f, err := os.Open(c.path)
	if err != nil {
		return fmt.Errorf("reading the credentials of devices: %w", err)
	}
	defer f.Close()
	keys := map[string]credential{}
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		bad := len(fields) != 3 || len(fields[0]) > 128 || len(fields[1]) < 16
		if !bad && fields[2] != anyDevice {
			bad = fleet.CheckName("device", fields[2]) != nil
		}
		if bad {
			return fmt.Errorf("reading the credentials of devices, %s: line %d is none: write the access key, the secret of 16 characters or more, and the device or *", c.path, n)
		}
		if _, twice := keys[fields[0]]; twice {
			return fmt.Errorf("reading the credentials of devices, %s: line %d has an access key that another line has", c.path, n)
		}
		keys[fields[0]] = credential{fields[1], fields[2]}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("reading the credentials of devices, %s: %w", c.path, err)
	}
	c.was, c.keys = info, keys
	return nil
}

// look reads the file again where it has changed.
func (c *Credentials) look() {
	now := time.Now()
	if now.Sub(c.looked) < credentialsLooks {
		return
	}
	c.looked = now
	info, err := os.Stat(c.path)
	if err == nil && os.SameFile(info, c.was) && info.ModTime().Equal(c.was.ModTime()) && info.Size() == c.was.Size() {
		return
	}
	if err := c.read(); err != nil {
		c.log.Error("the credentials of devices stay what they were", "error", err)
	}
}

// Secret implements edge.Credentials.
func (c *Credentials) Secret(key string) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.look()
	one, known := c.keys[key]
	return one.secret, known
}

// May implements edge.Credentials.
func (c *Credentials) May(key, device string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	one, known := c.keys[key]
	return known && (one.device == anyDevice || subtle.ConstantTimeCompare([]byte(one.device), []byte(device)) == 1)
}

// AddCredentials adds a key to the file for each device that has none there, and says
// for which.
func AddCredentials(path string, devices []string) (added []string, err error) {
	old, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		old, err = []byte("# access key, secret, device\n"), nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the credentials of devices: %w", err)
	}
	has := map[string]bool{}
	for line := range strings.Lines(string(old)) {
		if fields := strings.Fields(line); len(fields) == 3 {
			has[fields[2]] = true
		}
	}
	if len(old) > 0 && old[len(old)-1] != '\n' {
		old = append(old, '\n')
	}
	for _, d := range devices {
		if has[d] {
			continue
		}
		has[d] = true
		old = fmt.Appendf(old, "%s %s %s\n", "PK"+random(10), random(25), d)
		added = append(added, d)
	}
	if len(added) == 0 {
		return nil, nil
	}
	if err := durable.WriteFile(path, old, 0o600); err != nil {
		return nil, fmt.Errorf("writing the credentials of devices: %w", err)
	}
	return added, nil
}

func random(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // it never fails
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b)
}
