package fleet

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"github.com/picket-ml/picket/internal/durable"
)

// The roles of a fleet's documents, beside those of TUF itself.
const (
	// progressRole may say how far rollouts go, and nothing else.
	progressRole = "progress"

	devicesTarget = "devices.json"
	timestampKey  = "timestamp.json"
)

// Limits of metadata, in bytes and in roots that are followed at a time.
const (
	maxRootBytes      = 512 << 10
	maxTimestampBytes = 64 << 10
	maxMetadataBytes  = 4 << 20
	maxRootSteps      = 1024
)

func groupTarget(group string) string    { return "groups/" + group + ".json" }
func progressTarget(group string) string { return "progress/" + group + ".json" }

func versionedKey(version int64, role string) string {
	return strconv.FormatInt(version, 10) + "." + role + ".json"
}

// targetKey is where a target lies: its name has its digest.
func targetKey(target, digest string) string {
	folder, name := "", target
	if i := strings.LastIndexByte(target, '/'); i >= 0 {
		folder, name = target[:i+1], target[i+1:]
	}
	return "targets/" + folder + digest + "." + name
}

// What can be wrong with the documents of a fleet.
var (
	// ErrExpired is documents that nobody has signed anew for too long, or a clock
	// that is ahead.
	ErrExpired = errors.New("the fleet's documents have expired")
	// ErrUntrusted is documents that are not what their signers wrote last.
	ErrUntrusted = errors.New("the fleet's documents are not to be trusted")
)

// Reader is a view of a fleet's documents that only goes forward. It may be used by
// many goroutines at once.
type Reader struct {
	bucket Bucket
	file   string // where the view is kept; empty for nowhere
	now    func() time.Time
	// lenient does not look at expiry: for who signs them anew. rootLimit is the newest
	// root that is followed; 0 for any.
	lenient   bool
	rootLimit int64

	mu   sync.Mutex
	kept kept
	// etag is of the timestamp that kept has, and rootChecked when it was looked for a
	// newer root.
	etag        string
	rootChecked time.Time
	set         *trustedmetadata.TrustedMetadata // of kept; nil before the first refresh
}

// kept is what a Reader keeps between starts: the documents as they came. It is one
// file, so that they always belong together.
type kept struct {
	Format int `json:"picket_fleet_view"`
	// Root is the newest one that the operator's has led to.
	Root      json.RawMessage `json:"root"`
	Timestamp json.RawMessage `json:"timestamp,omitempty"`
	Snapshot  json.RawMessage `json:"snapshot,omitempty"`
	Targets   json.RawMessage `json:"targets,omitempty"`
	Progress  json.RawMessage `json:"progress,omitempty"`
	// Documents are ours that the targets name, by name.
	Documents map[string]json.RawMessage `json:"documents,omitempty"`
	// Clock is when they were found valid last. The clock is never believed to be
	// earlier.
	Clock time.Time `json:"clock"`
}

// ReaderOptions are those of NewReader.
type ReaderOptions struct {
	Bucket Bucket
	// Root is a root document that the operator has put on this host.
	Root []byte
	// File is where the view is kept; empty for nowhere.
	File string
	// Now is time.Now, or a test's.
	Now func() time.Time
}

// rootInterval is how often a newer root is looked for where nothing else has changed.
const rootInterval = time.Hour

// NewReader opens a view. A kept one that is damaged is an error: whoever could damage
// it could bring back old documents otherwise.
func NewReader(o ReaderOptions) (*Reader, error) {
	r := &Reader{bucket: o.Bucket, file: o.File, now: o.Now}
	if r.now == nil {
		r.now = time.Now
	}
	given, err := trustRoot(o.Root)
	if err != nil {
		return nil, fmt.Errorf("reading the fleet's root document: %w", err)
	}
	r.kept = kept{Format: documentFormat, Root: o.Root}
	if r.file == "" {
		return r, nil
	}
	data, err := readFile(r.file, 4*maxMetadataBytes+maxDocumentBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	var was kept
	if err == nil {
		was, err = parseKept(data)
	}
	var root *metadata.Metadata[metadata.RootType]
	if err == nil {
		root, err = trustRoot(was.Root)
	}
	if err != nil {
		return nil, fmt.Errorf("reading what the fleet's documents were, %s: it is damaged: %w; restore it, or remove it and with it the protection against older documents", r.file, err)
	}
	// A newer root that the operator has put there by hand wins: that is how a fleet whose
	// root keys are lost goes on.
	if given.Signed.Version > root.Signed.Version {
		was = kept{Format: documentFormat, Root: o.Root, Clock: was.Clock}
	}
	r.kept = was
	if len(was.Timestamp) > 0 {
		r.set = r.again()
	}
	return r, nil
}

func parseKept(data []byte) (kept, error) {
	var k kept
	if err := checkMetadata(data); err != nil {
		return kept{}, err
	}
	if err := json.Unmarshal(data, &k); err != nil {
		return kept{}, err
	}
	if k.Format != documentFormat {
		return kept{}, fmt.Errorf("it is not of format %d", documentFormat)
	}
	return k, nil
}

// trustRoot checks a root by itself.
func trustRoot(data []byte) (*metadata.Metadata[metadata.RootType], error) {
	if len(data) > maxRootBytes {
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(data), maxRootBytes)
	}
	if err := checkMetadata(data); err != nil {
		return nil, err
	}
	set, err := trustedmetadata.New(data)
	if err != nil {
		return nil, err
	}
	return set.Root, nil
}

// again rebuilds the set from what was kept, which was valid then; nil where it is not
// complete.
func (r *Reader) again() *trustedmetadata.TrustedMetadata {
	set, err := trustedmetadata.New(r.kept.Root)
	if err != nil {
		return nil
	}
	set.RefTime = time.Unix(0, 0).UTC() // expiry is looked at elsewhere
	if _, err := set.UpdateTimestamp(r.kept.Timestamp); err != nil {
		return nil
	}
	if _, err := set.UpdateSnapshot(r.kept.Snapshot, true); err != nil {
		return nil
	}
	if _, err := set.UpdateTargets(r.kept.Targets); err != nil {
		return nil
	}
	if len(r.kept.Progress) > 0 {
		if _, err := set.UpdateDelegatedTargets(r.kept.Progress, progressRole, metadata.TARGETS); err != nil {
			return nil
		}
	}
	return set
}

// clock is the host's time, or what is known to be past.
func (r *Reader) clock() time.Time {
	if now := r.now(); now.After(r.kept.Clock) {
		return now.UTC()
	}
	return r.kept.Clock
}

// Fresh fails with ErrExpired where one of the documents that the view has is expired by
// now, or there are none.
func (r *Reader) Fresh() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fresh()
}

func (r *Reader) fresh() error {
	if r.set == nil {
		return fmt.Errorf("%w: none were read yet", ErrExpired)
	}
	if r.lenient {
		return nil
	}
	now := r.clock()
	check := func(what string, expires time.Time) error {
		if now.After(expires) {
			return fmt.Errorf("%w: %s was good until %s, and the clock of this host says %s; either nobody has signed it anew, or the clock is wrong",
				ErrExpired, what, expires.Format(time.RFC3339), r.now().UTC().Format(time.RFC3339))
		}
		return nil
	}
	err := errors.Join(check("root", r.set.Root.Signed.Expires), check("timestamp", r.set.Timestamp.Signed.Expires),
		check("snapshot", r.set.Snapshot.Signed.Expires), check("targets", r.set.Targets[metadata.TARGETS].Signed.Expires))
	if p := r.set.Targets[progressRole]; p != nil {
		err = errors.Join(err, check("progress", p.Signed.Expires))
	}
	return err
}

// Refresh looks for newer documents, and tells whether there were any. After an error
// the view is what it was. One request where nothing has changed; every hour, two.
func (r *Reader) Refresh(ctx context.Context) (changed bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	data, etag, err := r.bucket.Get(ctx, timestampKey, r.etag, maxTimestampBytes)
	same := errors.Is(err, ErrNotModified)
	if err != nil && !same {
		return false, fmt.Errorf("reading the fleet's documents from %s: %w", r.bucket.URL(timestampKey), err)
	}
	if same && r.set != nil && r.now().Sub(r.rootChecked).Abs() < rootInterval {
		return false, r.fresh()
	}
	next := r.kept
	if err := r.followRoot(ctx, &next); err != nil {
		return false, err
	}
	newRoot := string(next.Root) != string(r.kept.Root)
	if newRoot {
		// Kept at once: what comes next may fail for long, and it must not be walked twice.
		if err := r.save(next); err != nil {
			return false, err
		}
		r.kept = next
	}
	r.rootChecked = r.now()
	if same && !newRoot && r.set != nil {
		return false, r.fresh()
	}
	if same {
		data = r.kept.Timestamp
	}
	set, err := r.load(ctx, &next, data)
	if err != nil {
		return false, err
	}
	next.Clock = r.clock()
	changed = r.set == nil || string(next.Timestamp) != string(r.kept.Timestamp) || newRoot
	// Only those that somebody has asked for, and that are still what the targets name.
	next.Documents = r.stillNamed(set, next.Documents)
	if changed {
		if err := r.save(next); err != nil {
			return false, err
		}
	}
	r.kept, r.set, r.etag = next, set, etag
	return changed, r.fresh()
}

// followRoot goes from the root that is trusted to the newest, one version at a time,
// each signed by the one before.
func (r *Reader) followRoot(ctx context.Context, k *kept) error {
	set, err := trustedmetadata.New(k.Root)
	if err != nil {
		return fmt.Errorf("%w: root: %w", ErrUntrusted, err)
	}
	for range maxRootSteps {
		if r.rootLimit > 0 && set.Root.Signed.Version >= r.rootLimit {
			return nil
		}
		key := versionedKey(set.Root.Signed.Version+1, metadata.ROOT)
		data, _, err := r.bucket.Get(ctx, key, "", maxRootBytes)
		if errors.Is(err, ErrAbsent) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the fleet's documents from %s: %w", r.bucket.URL(key), err)
		}
		if err = checkMetadata(data); err == nil {
			_, err = set.UpdateRoot(data)
		}
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrUntrusted, key, err)
		}
		k.Root = data
	}
	return fmt.Errorf("%w: there are more than %d newer roots", ErrUntrusted, maxRootSteps)
}

// load takes what belongs to the timestamp into k, and reads from the bucket what k does
// not have.
func (r *Reader) load(ctx context.Context, k *kept, timestamp []byte) (*trustedmetadata.TrustedMetadata, error) {
	set, err := trustedmetadata.New(k.Root)
	if err != nil {
		return nil, fmt.Errorf("%w: root: %w", ErrUntrusted, err)
	}
	set.RefTime = r.clock()
	if r.lenient {
		set.RefTime = time.Unix(0, 0).UTC()
	}
	// What was kept keeps older ones out, unless a new root no longer trusts its signer.
	if len(k.Timestamp) > 0 {
		_, _ = set.UpdateTimestamp(k.Timestamp)
	}
	if err := checkMetadata(timestamp); err != nil {
		return nil, fmt.Errorf("%w: timestamp: %w", ErrUntrusted, err)
	}
	if parsed, err := metadata.Timestamp().FromBytes(timestamp); err != nil || parsed.Signed.Meta["snapshot.json"] == nil {
		return nil, fmt.Errorf("%w: timestamp: it names no snapshot", ErrUntrusted)
	}
	if _, err := set.UpdateTimestamp(timestamp); err != nil && !errors.Is(err, &metadata.ErrEqualVersionNumber{}) {
		return nil, because("timestamp", err)
	} else if err == nil {
		k.Timestamp = timestamp
	}
	if set.Timestamp == nil {
		return nil, fmt.Errorf("%w: timestamp: there is none", ErrUntrusted)
	}

	wanted := set.Timestamp.Signed.Meta["snapshot.json"]
	if len(k.Snapshot) > 0 {
		_, _ = set.UpdateSnapshot(k.Snapshot, true) // likewise
	}
	if set.Snapshot == nil || set.Snapshot.Signed.Version != wanted.Version || wanted.VerifyLengthHashes(k.Snapshot) != nil {
		if k.Snapshot, err = r.metadata(ctx, wanted.Version, metadata.SNAPSHOT); err != nil {
			return nil, err
		}
		if _, err := set.UpdateSnapshot(k.Snapshot, false); err != nil {
			return nil, because("snapshot", err)
		}
	}
	if k.Targets, err = r.loadTargets(ctx, set, k.Targets, metadata.TARGETS, metadata.ROOT); err != nil {
		return nil, err
	}
	if set.Snapshot.Signed.Meta[progressRole+".json"] != nil {
		k.Progress, err = r.loadTargets(ctx, set, k.Progress, progressRole, metadata.TARGETS)
	} else {
		k.Progress = nil
	}
	return set, err
}

// loadTargets adds the targets of a role to the set: those that are there, if they are
// still the ones.
func (r *Reader) loadTargets(ctx context.Context, set *trustedmetadata.TrustedMetadata, have []byte, role, parent string) ([]byte, error) {
	wanted := set.Snapshot.Signed.Meta[role+".json"]
	if wanted == nil {
		return nil, fmt.Errorf("%w: the snapshot names no %s", ErrUntrusted, role)
	}
	if len(have) > 0 && wanted.VerifyLengthHashes(have) == nil {
		if _, err := set.UpdateDelegatedTargets(have, role, parent); err == nil {
			return have, nil
		}
	}
	data, err := r.metadata(ctx, wanted.Version, role)
	if err != nil {
		return nil, err
	}
	if _, err := set.UpdateDelegatedTargets(data, role, parent); err != nil {
		return nil, because(role, err)
	}
	return data, nil
}

func (r *Reader) metadata(ctx context.Context, version int64, role string) ([]byte, error) {
	key := versionedKey(version, role)
	data, _, err := r.bucket.Get(ctx, key, "", maxMetadataBytes)
	if err != nil {
		return nil, fmt.Errorf("reading the fleet's documents from %s: %w", r.bucket.URL(key), err)
	}
	if err := checkMetadata(data); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrUntrusted, key, err)
	}
	return data, nil
}

// because gives an error of the library our kind and the name of the document.
func because(role string, err error) error {
	if errors.Is(err, &metadata.ErrExpiredMetadata{}) {
		return fmt.Errorf("%w: %s: %w; either nobody has signed it anew, or the clock of this host is wrong", ErrExpired, role, err)
	}
	return fmt.Errorf("%w: %s: %w", ErrUntrusted, role, err)
}

// stillNamed are the documents that the targets name with the same content.
func (r *Reader) stillNamed(set *trustedmetadata.TrustedMetadata, docs map[string]json.RawMessage) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	for name, data := range docs {
		if t := targetIn(set, name); t != nil && t.VerifyLengthHashes(data) == nil {
			out[name] = data
		}
	}
	return out
}

// targetIn is what the role that may name a document says of it; nil for nothing.
func targetIn(set *trustedmetadata.TrustedMetadata, name string) *metadata.TargetFiles {
	role := metadata.TARGETS
	if strings.HasPrefix(name, "progress/") {
		role = progressRole
	}
	if set == nil || set.Targets[role] == nil {
		return nil
	}
	return set.Targets[role].Signed.Targets[name]
}

// document reads one of ours as the targets name it; ErrAbsent where they do not.
func (r *Reader) document(ctx context.Context, name string) ([]byte, error) {
	t := targetIn(r.set, name)
	if t == nil {
		return nil, ErrAbsent
	}
	if data := r.kept.Documents[name]; len(data) > 0 && t.VerifyLengthHashes(data) == nil {
		return data, nil
	}
	digest := hex.EncodeToString(t.Hashes["sha256"])
	if len(digest) != 64 || t.Length < 1 || t.Length > maxDocumentBytes {
		return nil, fmt.Errorf("%w: %s: its length or its digest is none", ErrUntrusted, name)
	}
	key := targetKey(name, digest)
	data, _, err := r.bucket.Get(ctx, key, "", t.Length)
	if err != nil {
		return nil, fmt.Errorf("reading the fleet's documents from %s: %w", r.bucket.URL(key), err)
	}
	if err := t.VerifyLengthHashes(data); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrUntrusted, key, err)
	}
	next := r.kept
	next.Documents = r.stillNamed(r.set, r.kept.Documents)
	next.Documents[name] = data
	if err := r.save(next); err != nil {
		return nil, err
	}
	r.kept = next
	return data, nil
}

func (r *Reader) save(k kept) error {
	if r.file == "" {
		return nil
	}
	data, err := json.Marshal(k)
	if err == nil {
		if err = durable.MkdirAll(filepath.Dir(r.file), 0o700); err == nil {
			err = durable.WriteFile(r.file, data, 0o600)
		}
	}
	if err != nil {
		return fmt.Errorf("keeping the fleet's documents: %w", err)
	}
	return nil
}

// read gives a document of the view, parsed.
func read[T document](ctx context.Context, r *Reader, name string) (*T, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	data, err := r.document(ctx, name)
	if err != nil {
		return nil, err
	}
	out, err := parse[T](data)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrUntrusted, name, err)
	}
	return out, nil
}

// Group is the document of a group as the view has it; ErrAbsent where there is none.
// The view may be expired: that is for Fresh to say.
func (r *Reader) Group(ctx context.Context, fleet, group string) (*Group, error) {
	g, err := read[Group](ctx, r, groupTarget(group))
	if err == nil && (g.Group != group || fleet != "" && g.Fleet != fleet) {
		return nil, fmt.Errorf("%w: it is the document of group %s of fleet %s", ErrUntrusted, g.Group, g.Fleet)
	}
	return g, err
}

// Progress is that of a group; nil without an error where there is none.
func (r *Reader) Progress(ctx context.Context, fleet, group string) (*Progress, error) {
	p, err := read[Progress](ctx, r, progressTarget(group))
	if errors.Is(err, ErrAbsent) {
		return nil, nil
	}
	if err == nil && (p.Group != group || fleet != "" && p.Fleet != fleet) {
		return nil, fmt.Errorf("%w: it is the progress of group %s of fleet %s", ErrUntrusted, p.Group, p.Fleet)
	}
	return p, err
}

// Devices are those of the fleet.
func (r *Reader) Devices(ctx context.Context) (*Devices, error) {
	return read[Devices](ctx, r, devicesTarget)
}

// Groups are the names of those that have a document.
func (r *Reader) Groups() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.set == nil {
		return nil
	}
	var all []string
	for name := range r.set.Targets[metadata.TARGETS].Signed.Targets {
		if group, ok := strings.CutPrefix(name, "groups/"); ok {
			all = append(all, strings.TrimSuffix(group, ".json"))
		}
	}
	return all
}

// Versions are those of the documents that the view has, by role, and when each expires.
func (r *Reader) Versions() map[string]Version {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := map[string]Version{}
	if r.set == nil {
		return all
	}
	all["root"] = Version{r.set.Root.Signed.Version, r.set.Root.Signed.Expires}
	all["timestamp"] = Version{r.set.Timestamp.Signed.Version, r.set.Timestamp.Signed.Expires}
	all["snapshot"] = Version{r.set.Snapshot.Signed.Version, r.set.Snapshot.Signed.Expires}
	for role, t := range r.set.Targets {
		all[role] = Version{t.Signed.Version, t.Signed.Expires}
	}
	return all
}

// Version is of one document.
type Version struct {
	Version int64     `json:"version"`
	Expires time.Time `json:"expires"`
}
