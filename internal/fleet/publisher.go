package fleet

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/picket-ml/picket/internal/durable"
)

// How long documents are good for. Root and targets are signed by people, the others by
// whoever watches over the fleet, who signs them anew when half of that is over.
const (
	rootLife      = 2 * 365 * 24 * time.Hour
	targetsLife   = 365 * 24 * time.Hour
	onlineLife    = 30 * 24 * time.Hour
	timestampLife = 7 * 24 * time.Hour
)

// Publisher changes a fleet's documents, as far as its keys go. It may be used by one
// goroutine at a time; several programs may publish at once.
type Publisher struct {
	bucket Bucket
	keys   Keys
	root   []byte
	now    func() time.Time
}

// NewPublisher makes one that trusts root. now is time.Now, or a test's.
func NewPublisher(b Bucket, keys Keys, root []byte, now func() time.Time) *Publisher {
	if now == nil {
		now = time.Now
	}
	return &Publisher{b, keys, root, now}
}

// Init writes the first documents of a fleet, which nobody has begun there, and gives
// the root document for devices. threshold is how many root keys it takes to change
// the keys.
func Init(ctx context.Context, b Bucket, keys Keys, fleet string, threshold int, now func() time.Time) ([]byte, error) {
	p := NewPublisher(b, keys, nil, now)
	if keys.Targets == nil || keys.Online == nil || len(keys.Root) == 0 {
		return nil, errors.New("beginning a fleet: a key is missing")
	}
	if err := CheckName("fleet", fleet); err != nil {
		return nil, fmt.Errorf("beginning a fleet: %w", err)
	}
	if threshold < 1 || threshold > len(keys.Root) {
		return nil, fmt.Errorf("beginning a fleet: %d of %d root keys cannot sign", threshold, len(keys.Root))
	}
	at := p.now().UTC().Truncate(time.Second)
	root := metadata.Root(at.Add(rootLife))
	for _, k := range keys.Root {
		if err := root.Signed.AddKey(k.public, metadata.ROOT); err != nil {
			return nil, err
		}
	}
	root.Signed.Roles[metadata.ROOT].Threshold = threshold
	for role, key := range map[string]*Key{metadata.TARGETS: keys.Targets, metadata.SNAPSHOT: keys.Online, metadata.TIMESTAMP: keys.Online} {
		if err := root.Signed.AddKey(key.public, role); err != nil {
			return nil, err
		}
	}
	data, err := signed(root, keys.Root...)
	if err != nil {
		return nil, err
	}
	if err := b.Put(ctx, versionedKey(1, metadata.ROOT), data, Condition{Absent: true}); err != nil {
		if errors.Is(err, ErrConflict) {
			data, err = begun(ctx, b, root)
		}
		if err != nil {
			return nil, fmt.Errorf("beginning a fleet in %s: %w", b.URL(""), err)
		}
	}
	p.root = data
	targets := metadata.Targets(at.Add(targetsLife))
	progress := metadata.Targets(at.Add(onlineLife))
	e := &Edit{
		p: p, at: at, first: true, targets: targets, progress: progress, newTargets: true, newProgress: true,
		snapshot: metadata.Snapshot(at), timestamp: metadata.Timestamp(at),
	}
	if err := e.delegate(); err != nil {
		return nil, err
	}
	if err := e.SetDevices(ctx, &Devices{Format: documentFormat, Fleet: fleet, Devices: map[string]string{}}); err != nil {
		return nil, err
	}
	if err := e.commit(ctx); err != nil {
		return nil, fmt.Errorf("beginning a fleet in %s: %w", b.URL(""), err)
	}
	return data, nil
}

// begun is the root document of a fleet that Init was interrupted in beginning, with these keys: nothing shows it to devices before there
// is a timestamp.
func begun(ctx context.Context, b Bucket, with *metadata.Metadata[metadata.RootType]) ([]byte, error) {
	exists := errors.New("there is one already")
	if _, _, err := b.Get(ctx, timestampKey, "", maxTimestampBytes); !errors.Is(err, ErrAbsent) {
		return nil, cmp.Or(err, exists)
	}
	data, _, err := b.Get(ctx, versionedKey(1, metadata.ROOT), "", maxRootBytes)
	if err != nil {
		return nil, err
	}
	is, err := new(metadata.Metadata[metadata.RootType]).FromBytes(data)
	if err != nil || is.VerifyDelegate(metadata.ROOT, is) != nil || with.VerifyDelegate(metadata.ROOT, is) != nil || !sameRoles(is.Signed.Roles, with.Signed.Roles) {
		return nil, fmt.Errorf("%w, or the beginning of one, with other keys", exists)
	}
	return data, nil
}

// sameRoles tells whether the same keys may sign for the same documents.
func sameRoles(a, b map[string]*metadata.Role) bool {
	return maps.EqualFunc(a, b, func(a, b *metadata.Role) bool {
		return a.Threshold == b.Threshold && slices.Equal(slices.Sorted(slices.Values(a.KeyIDs)), slices.Sorted(slices.Values(b.KeyIDs)))
	})
}

// Edit is one change of the documents, which are visible all at once or not at all.
type Edit struct {
	p     *Publisher
	at    time.Time
	first bool
	// Reader is the view that is changed.
	Reader *Reader

	targets, progress *metadata.Metadata[metadata.TargetsType]
	snapshot          *metadata.Metadata[metadata.SnapshotType]
	timestamp         *metadata.Metadata[metadata.TimestampType]
	// What is to be signed anew.
	newTargets, newProgress bool
	etag                    string
	pending                 map[string][]byte // targets to write, by key
	documents               map[string][]byte // what was set, by name
}

// Change reads the documents, has do change them, and writes what it changed. When
// somebody else has meanwhile, it begins again. do gets each time an Edit of its own.
func (p *Publisher) Change(ctx context.Context, do func(ctx context.Context, e *Edit) error) error {
	for try := range 8 {
		err := p.change(ctx, do)
		if !errors.Is(err, ErrConflict) || try == 7 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(50+rand.IntN(200)) * time.Millisecond << min(try, 4)):
		}
	}
	return nil
}

func (p *Publisher) change(ctx context.Context, do func(ctx context.Context, e *Edit) error) error {
	e, err := p.begin(ctx)
	if err != nil {
		return err
	}
	if err := do(ctx, e); err != nil {
		return err
	}
	if err := e.commit(ctx); err != nil {
		return fmt.Errorf("writing the fleet's documents to %s: %w", p.bucket.URL(""), err)
	}
	return nil
}

func (p *Publisher) begin(ctx context.Context) (*Edit, error) {
	r, err := p.view(ctx, 0)
	halfRotated := false
	if errors.Is(err, ErrUntrusted) && r != nil {
		// A change of keys may have ended after the new root: what the old one trusts is
		// signed anew with the new keys.
		if newest, err2 := trustRoot(r.kept.Root); err2 == nil && newest.Signed.Version > 1 {
			if before, err2 := p.view(ctx, newest.Signed.Version-1); err2 == nil {
				r, err, halfRotated = before, nil, true
			}
		}
	}
	if err != nil {
		return nil, err
	}
	e := &Edit{p: p, Reader: r, at: p.now().UTC().Truncate(time.Second), etag: r.etag, snapshot: r.set.Snapshot, timestamp: r.set.Timestamp}
	e.targets, e.progress = r.set.Targets[metadata.TARGETS], r.set.Targets[progressRole]
	if e.progress == nil {
		return nil, fmt.Errorf("%w: there is no progress", ErrUntrusted)
	}
	if halfRotated {
		if p.keys.Online == nil {
			return nil, errNoKey(onlineKeyFile)
		}
		return e, e.delegate()
	}
	return e, nil
}

// view reads the documents, whether they have expired or not, with a root of at most
// that version; 0 for any.
func (p *Publisher) view(ctx context.Context, rootLimit int64) (*Reader, error) {
	r, err := NewReader(ReaderOptions{Bucket: p.bucket, Root: p.root, Now: p.now})
	if err != nil {
		return nil, err
	}
	r.lenient, r.rootLimit = true, rootLimit
	_, err = r.Refresh(ctx)
	return r, err
}

// delegate has the targets say who may say how far rollouts go.
func (e *Edit) delegate() error {
	online := e.p.keys.Online
	e.newTargets, e.newProgress = true, true
	e.targets.Signed.Delegations = &metadata.Delegations{
		Keys: map[string]*metadata.Key{online.ID: online.public},
		Roles: []metadata.DelegatedRole{{
			Name: progressRole, KeyIDs: []string{online.ID}, Threshold: 1, Terminating: true, Paths: []string{"progress/*.json"},
		}},
	}
	return nil
}

// SetGroup changes the document of a group, SetDevices that of devices; both need the
// targets key.
func (e *Edit) SetGroup(_ context.Context, g *Group) error {
	g.Format = documentFormat
	return set(e, groupTarget(g.Group), g)
}

// SetDevices is described at SetGroup.
func (e *Edit) SetDevices(_ context.Context, d *Devices) error {
	d.Format = documentFormat
	return set(e, devicesTarget, d)
}

// SetProgress changes that of a group, and needs the online key.
func (e *Edit) SetProgress(_ context.Context, p *Progress) error {
	p.Format = documentFormat
	return set(e, progressTarget(p.Group), p)
}

func set[T document](e *Edit, name string, doc *T) error {
	data, err := encode(doc)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	file := &metadata.TargetFiles{Length: int64(len(data)), Hashes: metadata.Hashes{"sha256": sum[:]}, Path: name}
	to := e.targets
	if name[:min(len(name), 9)] == "progress/" {
		to, e.newProgress = e.progress, true
	} else {
		e.newTargets = true
	}
	to.Signed.Targets[name] = file
	if e.pending == nil {
		e.pending, e.documents = map[string][]byte{}, map[string][]byte{}
	}
	e.pending[targetKey(name, hex.EncodeToString(sum[:]))] = data
	e.documents[name] = data
	return nil
}

// Renew signs anew what is half over, and tells whether anything is. Targets are left
// to who has their key.
func (e *Edit) Renew() bool {
	half := func(expires time.Time, life time.Duration) bool { return expires.Sub(e.at) < life/2 }
	if half(e.progress.Signed.Expires, onlineLife) {
		e.newProgress = true
	}
	if e.p.keys.Targets != nil && half(e.targets.Signed.Expires, targetsLife) {
		e.newTargets = true
	}
	return e.newProgress || e.newTargets || half(e.snapshot.Signed.Expires, onlineLife) || half(e.timestamp.Signed.Expires, timestampLife)
}

// errNoKey is a role that cannot be signed for.
func errNoKey(file string) error {
	return fmt.Errorf("it must be signed with %s, which is not among the keys here", file)
}

// commit writes the documents, the timestamp last: what was written before it is seen
// by nobody until then.
func (e *Edit) commit(ctx context.Context) error {
	if e.p.keys.Online == nil {
		return errNoKey(onlineKeyFile)
	}
	if e.newTargets && e.p.keys.Targets == nil {
		return errNoKey(targetsKeyFile)
	}
	for key, data := range e.pending {
		// Named by content, so whatever is there is the same.
		if err := e.p.bucket.Put(ctx, key, data, Condition{Absent: true}); err != nil && !errors.Is(err, ErrConflict) {
			return err
		}
	}
	s := &e.snapshot.Signed
	if s.Meta == nil || e.first {
		s.Meta = map[string]*metadata.MetaFiles{}
	}
	for _, t := range []struct {
		role string
		doc  *metadata.Metadata[metadata.TargetsType]
		life time.Duration
		anew bool
		key  *Key
	}{{metadata.TARGETS, e.targets, targetsLife, e.newTargets, e.p.keys.Targets}, {progressRole, e.progress, onlineLife, e.newProgress, e.p.keys.Online}} {
		if !t.anew {
			continue
		}
		t.doc.Signed.Expires = e.at.Add(t.life)
		if !e.first {
			t.doc.Signed.Version++
		}
		file, err := e.write(ctx, t.role, &t.doc.Signed.Version, func() ([]byte, error) { return signed(t.doc, *t.key) })
		if err != nil {
			return err
		}
		s.Meta[t.role+".json"] = file
	}
	s.Expires = e.at.Add(onlineLife)
	if !e.first {
		s.Version++
	}
	file, err := e.write(ctx, metadata.SNAPSHOT, &s.Version, func() ([]byte, error) { return signed(e.snapshot, *e.p.keys.Online) })
	if err != nil {
		return err
	}
	ts := &e.timestamp.Signed
	ts.Expires = e.at.Add(timestampLife)
	ts.Meta = map[string]*metadata.MetaFiles{"snapshot.json": file}
	if !e.first {
		ts.Version++
	}
	data, err := signed(e.timestamp, *e.p.keys.Online)
	if err != nil {
		return err
	}
	return e.p.bucket.Put(ctx, timestampKey, data, Condition{Absent: e.first, Tag: e.etag})
}

// write writes a document under its version, or the next that nobody has taken: one
// that crashed before its timestamp may have left some.
func (e *Edit) write(ctx context.Context, role string, version *int64, sign func() ([]byte, error)) (*metadata.MetaFiles, error) {
	for range 64 {
		data, err := sign()
		if err != nil {
			return nil, err
		}
		err = e.p.bucket.Put(ctx, versionedKey(*version, role), data, Condition{Absent: true})
		if err == nil {
			sum := sha256.Sum256(data)
			return &metadata.MetaFiles{Length: int64(len(data)), Hashes: metadata.Hashes{"sha256": sum[:]}, Version: *version}, nil
		}
		if !errors.Is(err, ErrConflict) {
			return nil, err
		}
		*version++
	}
	return nil, fmt.Errorf("%w: 64 versions of %s that belong to nothing", ErrConflict, role)
}

// signed is the metadata with signatures of these keys alone.
func signed[T metadata.Roles](m *metadata.Metadata[T], keys ...Key) ([]byte, error) {
	m.Signatures = nil
	for _, k := range keys {
		if _, err := m.Sign(k.signer); err != nil {
			return nil, fmt.Errorf("signing with %s: %w", k.File, err)
		}
	}
	return m.ToBytes(false)
}

// Rotate replaces the key of a role by a new one, which it writes beside the old; the
// old is renamed. role is "root", "targets" or "online"; of root, old says which file. The
// root keys must be here. Devices follow whenever they look the next time, however
// long they were away. After an error the caller goes on with the root document that it
// has: a change of keys that ended half-way is brought to its end from there.
func (p *Publisher) Rotate(ctx context.Context, dir, role, old string) (rootData []byte, err error) {
	e, err := p.begin(ctx)
	if err != nil {
		return nil, err
	}
	signers, err := p.rootSigners(e.Reader.set.Root)
	if err != nil {
		return nil, err
	}
	r, err := p.rotation(role, old)
	if err != nil {
		return nil, err
	}
	next, err := makeKey(filepath.Join(dir, r.file+".new"))
	if err != nil {
		return nil, err
	}
	root := e.Reader.set.Root
	rootData, err = r.sign(root, next, signers, e.at.Add(rootLife))
	if err != nil {
		return nil, errors.Join(err, os.Remove(next.File))
	}
	switch put, err := p.putRoot(ctx, root.Signed.Version, rootData); put {
	case refused:
		return nil, errors.Join(fmt.Errorf("writing the fleet's root: %w", err), os.Remove(next.File))
	case unclear:
		return nil, fmt.Errorf("writing the fleet's root: %w; the new key stays in %s: if there is a root of version %d all the same, name it %s, else remove it",
			err, next.File, root.Signed.Version, r.file)
	}
	// From here on the new key is the one: it must not be lost.
	if err := r.keep(dir, next); err != nil {
		return nil, err
	}
	switch role {
	case "targets":
		p.keys.Targets = next
	case "online":
		p.keys.Online = next
	default:
		p.keys.Root = append(without(p.keys.Root, r.was.ID), *next)
		return rootData, nil
	}
	// What the old key has signed is worth nothing now.
	e.newTargets = role == "targets"
	if role == "online" {
		if err := e.delegate(); err != nil {
			return nil, err
		}
	}
	if err := e.commit(ctx); err != nil {
		return nil, fmt.Errorf("signing the fleet's documents with the new key: %w; run picket fleet refresh", err)
	}
	return rootData, nil
}

// rootSigners are the keys here with which root can be changed.
func (p *Publisher) rootSigners(root *metadata.Metadata[metadata.RootType]) (signers []Key, err error) {
	role := root.Signed.Roles[metadata.ROOT]
	for _, k := range p.keys.Root {
		if slices.Contains(role.KeyIDs, k.ID) {
			signers = append(signers, k)
		}
	}
	if len(signers) < role.Threshold {
		return nil, fmt.Errorf("changing the keys of the fleet takes %d of its root keys, here are %d", role.Threshold, len(signers))
	}
	return signers, nil
}

// rotation is which key is replaced.
type rotation struct {
	file  string   // its name in the folder of keys
	roles []string // of the root document, that it signs for
	was   *Key     // nil where it is not here
}

// rotation finds the key of a role and checks that those which sign afterwards are here.
func (p *Publisher) rotation(role, old string) (*rotation, error) {
	switch role {
	case "targets":
		if p.keys.Online == nil {
			return nil, errNoKey(onlineKeyFile)
		}
		return &rotation{targetsKeyFile, []string{metadata.TARGETS}, p.keys.Targets}, nil
	case "online":
		if p.keys.Targets == nil {
			return nil, errNoKey(targetsKeyFile) // it says who may say how far rollouts go
		}
		return &rotation{onlineKeyFile, []string{metadata.SNAPSHOT, metadata.TIMESTAMP}, p.keys.Online}, nil
	case "root":
		if old == "" {
			old = rootKeyPrefix + ".pem"
		}
		at := slices.IndexFunc(p.keys.Root, func(k Key) bool { return filepath.Base(k.File) == old })
		if at < 0 {
			return nil, fmt.Errorf("changing the keys of the fleet: there is no root key %s here", old)
		}
		if p.keys.Online == nil {
			return nil, errNoKey(onlineKeyFile)
		}
		was := p.keys.Root[at]
		return &rotation{old, []string{metadata.ROOT}, &was}, nil
	}
	return nil, fmt.Errorf("changing the keys of the fleet: there is no role %q; there are root, targets and online", role)
}

// sign makes root the next version, in which next has the place of the old key, and signs it.
func (r *rotation) sign(root *metadata.Metadata[metadata.RootType], next *Key, signers []Key, expires time.Time) ([]byte, error) {
	for _, role := range r.roles {
		for _, id := range slices.Clone(root.Signed.Roles[role].KeyIDs) {
			if role == metadata.ROOT && id != r.was.ID {
				continue
			}
			if err := root.Signed.RevokeKey(id, role); err != nil {
				return nil, err
			}
		}
		if err := root.Signed.AddKey(next.public, role); err != nil {
			return nil, err
		}
	}
	root.Signed.Version++
	root.Signed.Expires = expires
	if r.roles[0] == metadata.ROOT {
		signers = append(slices.Clone(signers), *next)
	}
	return signed(root, signers...)
}

// keep puts the old key aside and the new one in its place.
func (r *rotation) keep(dir string, next *Key) error {
	if r.was != nil {
		if err := os.Rename(r.was.File, r.was.File+".old-"+r.was.ID[:8]); err != nil {
			return fmt.Errorf("putting the old key aside: %w; the new one, which counts now, is %s", err, next.File)
		}
	}
	place := filepath.Join(dir, r.file)
	if err := os.Rename(next.File, place); err != nil {
		return fmt.Errorf("putting the new key, which counts now, in its place: %w", err)
	}
	next.File = place
	return durable.SyncFolder(dir)
}

// outcome is what became of an object that was to be written.
type outcome int

const (
	refused outcome = iota
	unclear         // the answer was lost, and with it whether it is there
	written
)

// putRoot writes a version of the root document, and tells whether it is there: the answer to what was written may be lost.
func (p *Publisher) putRoot(ctx context.Context, version int64, data []byte) (outcome, error) {
	key := versionedKey(version, metadata.ROOT)
	err := p.bucket.Put(ctx, key, data, Condition{Absent: true})
	if err == nil {
		return written, nil
	}
	there, _, readErr := p.bucket.Get(ctx, key, "", maxRootBytes)
	switch {
	case readErr == nil && bytes.Equal(there, data):
		return written, nil
	case readErr == nil: // somebody else's
		return refused, err
	}
	return unclear, err
}
