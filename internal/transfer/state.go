package transfer

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/picket-ml/picket/internal/durable"
	"github.com/picket-ml/picket/internal/osfile"
)

// Folder is the name of the folder, in that of the files, which holds what is not complete yet.
const Folder = ".transfer"

// What lies in Folder for a file.
const (
	partSuffix   = ".part"   // its bytes, as far as they are here
	stateSuffix  = ".state"  // which of them are
	originSuffix = ".origin" // of a complete file: which object it is
)

// state says which bytes of a part file are the object's, and on disk. On disk it is a line with the SHA-256 of the rest,
// and JSON padded with blanks to a fixed size: it is written in place, so that a full disk does not keep it from being written.
type state struct {
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
	ETag   string `json:"etag"`
	Size   int64  `json:"size"`
	Part   int64  `json:"part_bytes"`
	// Have is, for each part, how many of its first bytes are there.
	Have []int64 `json:"have"`
}

// parts is how many parts there are.
func (s *state) parts() int { return int((s.Size + s.Part - 1) / s.Part) }

// bounds is where part i begins, and where the next one does.
func (s *state) bounds(i int) (from, to int64) {
	from = int64(i) * s.Part
	return from, min(from+s.Part, s.Size)
}

// sound tells whether the numbers can be true.
func (s *state) sound() bool {
	if s.Size < 0 || s.Part < leafBytes || s.Part%leafBytes != 0 || s.Size/s.Part > maxParts || len(s.Have) != s.parts() {
		return false
	}
	for i, n := range s.Have {
		if from, to := s.bounds(i); n < 0 || n > to-from {
			return false
		}
	}
	return true
}

// same tells whether both are of the same object.
func (s *state) same(other *state) bool {
	return s.Bucket == other.Bucket && s.Key == other.Key && s.ETag == other.ETag && s.Size == other.Size
}

const maxState = 1 << 20

// stateSize is what the state of so many parts may take.
func stateSize(s *state) int64 {
	const perPart, fixed = 20, 8 << 10
	return fixed + perPart*int64(len(s.Have))
}

// save writes s in place. The bytes that it speaks of must be on disk.
func (s *state) save(f *os.File) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if pad := stateSize(s) - int64(len(text)) - 65; pad > 0 {
		text = append(text, strings.Repeat(" ", int(pad))...)
	}
	digest := sha256.Sum256(text)
	whole := append([]byte(hex.EncodeToString(digest[:])+"\n"), text...)
	if _, err := f.WriteAt(whole, 0); err != nil {
		return err
	}
	return f.Sync()
}

// loadState reads what save wrote; nil where it is not whole.
func loadState(f *os.File) *state {
	data, err := io.ReadAll(io.NewSectionReader(f, 0, maxState))
	if err != nil {
		return nil
	}
	line, text, found := strings.Cut(string(data), "\n")
	digest := sha256.Sum256([]byte(text))
	s := &state{}
	if !found || line != hex.EncodeToString(digest[:]) || json.Unmarshal([]byte(text), s) != nil || !s.sound() {
		return nil
	}
	return s
}

// origin says which object a complete file is, so that it is not fetched again. It holds while the file has the size and
// the time that it says.
type origin struct {
	Bucket   string `json:"bucket"`
	Key      string `json:"key"`
	ETag     string `json:"etag"`
	SHA256   string `json:"sha256"`
	Size     int64  `json:"size"`
	Modified int64  `json:"modified_ns"`
}

// readOrigin is that of the file, or nil where there is none that holds.
func readOrigin(root *os.Root, name string) *origin {
	info, err := root.Lstat(name)
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	about, err := root.Lstat(Folder + "/" + name + originSuffix)
	if err != nil || !about.Mode().IsRegular() || about.Size() > maxState {
		return nil
	}
	data, err := root.ReadFile(Folder + "/" + name + originSuffix)
	if err != nil {
		return nil
	}
	o := &origin{}
	if json.Unmarshal(data, o) != nil || o.Size != info.Size() || o.Modified != info.ModTime().UnixNano() {
		return nil
	}
	return o
}

// write notes it, replacing what was noted before as a whole.
func (o *origin) write(root *os.Root, name string) error {
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return durable.WriteFileIn(root, Folder+"/"+name+originSuffix, append(text, '\n'), 0o644)
}

// lockPart opens the part file and its state, for this process alone.
func lockPart(root *os.Root, name string) (part, about *os.File, err error) {
	if err := root.Mkdir(Folder, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			for _, f := range []*os.File{part, about} {
				if f != nil {
					_ = f.Close() // nothing was written
				}
			}
		}
	}()
	path := Folder + "/" + name
	for {
		part, err = root.OpenFile(path+partSuffix, os.O_RDWR|os.O_CREATE|osfile.NoFollow, 0o644)
		if err != nil {
			return nil, nil, err
		}
		if err := osfile.TryLock(part); err != nil {
			if errors.Is(err, osfile.ErrLocked) {
				return part, nil, errors.New("another process is fetching it now")
			}
			return part, nil, fmt.Errorf("locking it: %w", err)
		}
		mine, err := part.Stat()
		if err != nil {
			return part, nil, err
		}
		if there, err := root.Lstat(path + partSuffix); err == nil && os.SameFile(mine, there) {
			break
		}
		_ = part.Close() // another process was done with it between the opening and the lock
	}
	about, err = root.OpenFile(path+stateSuffix, os.O_RDWR|os.O_CREATE|osfile.NoFollow, 0o644)
	return part, about, err
}

// forget removes what is not complete.
func forget(root *os.Root, name string) {
	for _, suffix := range []string{partSuffix, stateSuffix} {
		_ = root.Remove(Folder + "/" + name + suffix) // it may not be there
	}
}
