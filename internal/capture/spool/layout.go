package spool

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"iter"
	"regexp"
	"strconv"
	"time"
)

// The bytes; docs/formats/spool.md describes them.
const (
	headerSize = 64
	batchSize  = 48 // of its header
	headSize   = 100
	alignment  = 8
	// maxPayload is the most bytes of one batch.
	maxPayload = 128 << 20
	// maxSegmentFile is more than any segment has: one batch more than a full one.
	maxSegmentFile = 256 << 20
)

var (
	segmentMagic = [8]byte{'P', 'K', 'S', 'P', 'O', 'O', 'L', 1}
	headMagic    = [8]byte{'P', 'K', 'H', 'E', 'A', 'D', 0, 1}
	idsMagic     = [8]byte{'P', 'K', 'I', 'D', 'S', 0, 0, 1}
	batchMagic   = [4]byte{'P', 'K', 'B', '1'}

	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	le         = binary.LittleEndian
)

// What a batch is, besides records in the clear.
const (
	flagSealed = 1 // its payload is encrypted
	flagKey    = 2 // its payload is the segment's key, for the recipients
)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// moreSum is the checksum of what has that sum, and b behind it.
func moreSum(sum uint32, b []byte) uint32 { return crc32.Update(sum, castagnoli, b) }

// segmentHeader is the beginning of a segment.
type segmentHeader struct {
	number, salt, first, spool uint64
	made                       int64
}

func (h *segmentHeader) append(b []byte) []byte {
	start := len(b)
	b = append(b, segmentMagic[:]...)
	b = le.AppendUint64(b, h.number)
	b = le.AppendUint64(b, h.salt)
	b = le.AppendUint64(b, h.first)
	b = le.AppendUint64(b, uint64(h.made))
	b = le.AppendUint64(b, h.spool)
	b = append(b, make([]byte, 12)...)
	return le.AppendUint32(b, checksum(b[start:]))
}

// parse reads the header of the segment with that number and salt.
func (h *segmentHeader) parse(b []byte, number, salt uint64) bool {
	if len(b) < headerSize || !bytes.Equal(b[:8], segmentMagic[:]) || checksum(b[:headerSize-4]) != le.Uint32(b[headerSize-4:]) {
		return false
	}
	*h = segmentHeader{number: le.Uint64(b[8:]), salt: le.Uint64(b[16:]), first: le.Uint64(b[24:]), made: int64(le.Uint64(b[32:])), spool: le.Uint64(b[40:])}
	return h.number == number && h.salt == salt
}

// batchHeader is the beginning of a batch.
type batchHeader struct {
	salt, first    uint64
	records, bytes uint32
	payloadSum     uint32
	flags          uint32
	at             int64
}

func (h *batchHeader) put(b []byte) {
	copy(b, batchMagic[:])
	le.PutUint64(b[8:], h.salt)
	le.PutUint64(b[16:], h.first)
	le.PutUint32(b[24:], h.records)
	le.PutUint32(b[28:], h.bytes)
	le.PutUint32(b[32:], h.payloadSum)
	le.PutUint32(b[36:], h.flags)
	le.PutUint64(b[40:], uint64(h.at))
	le.PutUint32(b[4:], checksum(b[8:batchSize]))
}

// parse reads a header, and tells whether it is one of a segment with that salt.
func (h *batchHeader) parse(b []byte, salt uint64) bool {
	if len(b) < batchSize || [4]byte(b) != batchMagic || le.Uint64(b[8:]) != salt || checksum(b[8:batchSize]) != le.Uint32(b[4:]) {
		return false
	}
	*h = batchHeader{
		salt: salt, first: le.Uint64(b[16:]), records: le.Uint32(b[24:]), bytes: le.Uint32(b[28:]),
		payloadSum: le.Uint32(b[32:]), flags: le.Uint32(b[36:]), at: int64(le.Uint64(b[40:])),
	}
	return h.bytes <= maxPayload && h.first <= 1<<62
}

// size is what the batch takes, with its padding.
func (h *batchHeader) size() int { return batchSize + padded(int(h.bytes)) }

func padded(n int) int { return (n + alignment - 1) &^ (alignment - 1) }

// seal makes a batch of b, which has room for the header before the payload, whose
// checksum is sum: it pads it and writes the header.
func (h *batchHeader) seal(b []byte, sum uint32) []byte {
	end := len(b)
	h.bytes = uint32(end - batchSize)
	for len(b)%alignment != 0 {
		b = append(b, 0)
	}
	h.payloadSum = moreSum(sum, b[end:])
	h.put(b)
	return b
}

// fillBlock appends zeros to a batch up to whole blocks.
func fillBlock(b []byte) []byte {
	if odd := len(b) % block; odd > 0 {
		b = append(b, zeroBlock[odd:]...)
	}
	return b
}

var zeroBlock [block]byte

// found is what walk meets: a whole batch, or a range without one.
type found struct {
	offset  int
	header  batchHeader
	payload []byte // nil for damage
	damage  int    // how many bytes
}

// walk goes through the bytes of a segment with that salt, from offset at on. Zeros up
// to the end are the end. It stops at a batch whose records are not below end: they
// were written again in the segment that follows.
func walk(b []byte, salt uint64, at int, end uint64) iter.Seq[found] {
	return func(yield func(found) bool) {
		next := uint64(0)
		for at < len(b) {
			f := found{offset: at}
			from := at
			for at < len(b) && !f.take(b[at:], salt, next) {
				at += alignment
			}
			at = min(at, len(b))
			if at > from && !zeros(b[from:at]) {
				if !yield(found{offset: from, damage: at - from}) {
					return
				}
			}
			if at == len(b) {
				return
			}
			if f.header.flags&flagKey == 0 {
				if f.header.first >= end {
					return
				}
				next = f.header.first + uint64(f.header.records)
			}
			f.offset = at
			if !yield(f) {
				return
			}
			at += f.header.size()
		}
	}
}

// take reads the batch at the start of b, if there is a whole one of records from next
// on.
func (f *found) take(b []byte, salt, next uint64) bool {
	if !f.header.parse(b, salt) || f.header.size() > len(b) {
		return false
	}
	all := b[batchSize:f.header.size()]
	if checksum(all) != f.header.payloadSum || f.header.flags&flagKey == 0 && f.header.first < next {
		return false
	}
	f.payload = all[:f.header.bytes:f.header.bytes]
	return true
}

func zeros(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// appendEntryFrame appends what is before an entry of a payload.
func appendEntryFrame(b []byte, size, records int) []byte {
	return le.AppendUint32(le.AppendUint32(b, uint32(size)), uint32(records))
}

// entries are the bytes of the entries of a payload, and how many records each is.
func entries(payload []byte) iter.Seq2[int, []byte] {
	return func(yield func(int, []byte) bool) {
		for len(payload) >= 8 {
			n, records := int(le.Uint32(payload)), int(le.Uint32(payload[4:]))
			if n > len(payload)-8 {
				return
			}
			if !yield(records, payload[8:8+n:8+n]) {
				return
			}
			payload = payload[8+n:]
		}
	}
}

// head is what is settled.
type head struct {
	generation  uint64
	spool       uint64
	segment     uint64 // the first that is not settled
	first       uint64 // its first record
	next        uint64 // the number of the next record when this was written
	uploaded    uint64
	dropped     [4]uint64 // by quota, age, policy, and lost
	quarantined uint64
}

func (h *head) append(b []byte) []byte {
	start := len(b)
	b = append(b, headMagic[:]...)
	for _, v := range [...]uint64{h.generation, h.spool, h.segment, h.first, h.next, h.uploaded, h.dropped[0], h.dropped[1], h.dropped[2], h.dropped[3], h.quarantined} {
		b = le.AppendUint64(b, v)
	}
	return le.AppendUint32(b, checksum(b[start:]))
}

func (h *head) parse(b []byte) bool {
	if len(b) != headSize || [8]byte(b) != headMagic || checksum(b[:headSize-4]) != le.Uint32(b[headSize-4:]) {
		return false
	}
	at := 8
	for _, v := range [...]*uint64{&h.generation, &h.spool, &h.segment, &h.first, &h.next, &h.uploaded, &h.dropped[0], &h.dropped[1], &h.dropped[2], &h.dropped[3], &h.quarantined} {
		*v = le.Uint64(b[at:])
		at += 8
	}
	return h.settled() == h.first-1 && h.next >= h.first
}

// settled is how many records are neither on disk nor damaged there.
func (h *head) settled() uint64 {
	sum := h.uploaded + h.quarantined
	for _, d := range h.dropped {
		sum += d
	}
	return sum
}

// Names of files.
const (
	headA, headB = "head.a", "head.b"
	extSegment   = ".seg"
	extBig       = ".big"
	extBad       = ".bad"
	extIDs       = ".ids"
	extDone      = ".done"
	extLost      = ".lost"
)

var (
	saltedName = regexp.MustCompile(`^([0-9a-f]{16})-([0-9a-f]{16})(\.seg|\.big)$`)
	idsName    = regexp.MustCompile(`^([0-9a-f]{16})(\.ids|\.done|\.lost)$`)
	badName    = regexp.MustCompile(`^([0-9a-f]{16})-[0-9a-f]{8}-[0-9a-f]{8}\.bad$`)
)

func segmentName(number, salt uint64) string {
	return fmt.Sprintf("%016x-%016x%s", number, salt, extSegment)
}

func bigName(number, random uint64) string {
	return fmt.Sprintf("%016x-%016x%s", number, random, extBig)
}

func idsFileName(number uint64, ext string) string { return fmt.Sprintf("%016x%s", number, ext) }

func badFileName(number uint64, offset, length int) string {
	return fmt.Sprintf("%016x-%08x-%08x%s", number, offset, length, extBad)
}

// hexadecimal reads 16 digits that a pattern has found.
func hexadecimal(digits string) uint64 {
	v, err := strconv.ParseUint(digits, 16, 64)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return v
}

func timeOf(ns int64) time.Time { return time.Unix(0, ns).UTC() }
