package resolver_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/boottime"
	"github.com/connfs/connfs/internal/resolver"
)

func TestFramesRoundTrip(t *testing.T) {
	frames := []*resolver.Frame{
		{Op: resolver.OpReady, ID: 1},
		{
			Op: resolver.OpGet, ID: 1<<64 - 1, Timeout: 4750 * time.Millisecond,
			Meta: []byte("json"), Body: []byte("an/id\x00\n\xff"), Caller: 1<<32 - 2,
		},
		{Op: resolver.OpInit, Meta: make([]byte, 32), Body: bytes.Repeat([]byte("blob"), 20_000)},
	}
	var pipe bytes.Buffer
	for _, f := range frames {
		if err := resolver.WriteFrame(&pipe, f); err != nil {
			t.Fatal(err)
		}
	}
	in := iotest.OneByteReader(&pipe)
	for i, want := range frames {
		got, err := resolver.ReadFrame(in)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(bytes.Equal)); diff != "" {
			t.Errorf("frame %d (-want +got):\n%s", i, diff)
		}
	}
	if _, err := resolver.ReadFrame(in); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

func TestAnswersRoundTrip(t *testing.T) {
	for _, c := range []struct {
		h          resolver.Header
		meta, body string
	}{
		{resolver.Header{ID: 5, OK: true, Digest: 1<<64 - 1}, "metastore", "the value"},
		{resolver.Header{ID: 1<<64 - 1, Kind: conn.KeyRejected}, `{"reason":"x"}`, ""},
		{resolver.Header{OK: true}, "", ""},
	} {
		var pipe bytes.Buffer
		before := boottime.Elapsed()
		if err := resolver.WriteAnswer(&pipe, c.h, []byte(c.meta), []byte(c.body)); err != nil {
			t.Fatal(err)
		}
		after := boottime.Elapsed()
		want := c.h
		want.Meta, want.Body = uint32(len(c.meta)), uint32(len(c.body))
		got, meta, err := resolver.ReadHeader(iotest.HalfReader(&pipe))
		if err != nil {
			t.Fatal(err)
		}
		if got.Written < before || got.Written > after {
			t.Errorf("written at %v, which is not from %v to %v", got.Written, before, after)
		}
		want.Written = got.Written
		if got != want || string(meta) != c.meta {
			t.Errorf("%+v %q, want %+v", got, meta, want)
		}
		if rest := pipe.String(); rest != c.body {
			t.Errorf("body %q is left to the caller, want %q", rest, c.body)
		}
	}
}

func TestWhatBreaksOffIsAnError(t *testing.T) {
	var frame, answer bytes.Buffer
	resolver.WriteFrame(&frame, &resolver.Frame{
		Op: resolver.OpGet, Meta: []byte("json"), Body: []byte("id"),
	})
	resolver.WriteAnswer(&answer, resolver.Header{ID: 1}, []byte("meta"), nil)
	for n := 1; n < frame.Len(); n++ {
		if _, err := resolver.ReadFrame(
			bytes.NewReader(frame.Bytes()[:n]),
		); err != io.ErrUnexpectedEOF {
			t.Errorf("%d bytes of a frame: %v", n, err)
		}
	}
	for n := 1; n < answer.Len(); n++ {
		if _, _, err := resolver.ReadHeader(
			bytes.NewReader(answer.Bytes()[:n]),
		); err != io.ErrUnexpectedEOF {
			t.Errorf("%d bytes of an answer: %v", n, err)
		}
	}
}

func TestLengthsBeyondTheLimitsAreRefused(t *testing.T) {
	frame := func(meta, body uint32) []byte {
		b := make([]byte, 25)
		binary.LittleEndian.PutUint32(b[13:], meta)
		binary.LittleEndian.PutUint32(b[17:], body)
		return b
	}
	answer := func(meta, body uint32) []byte {
		b := make([]byte, 34)
		binary.LittleEndian.PutUint32(b[18:], meta)
		binary.LittleEndian.PutUint32(b[22:], body)
		return b
	}
	for _, over := range [][2]uint32{
		{16<<20 + 1, 0}, {1<<32 - 1, 0}, {0, 64<<20 + 1}, {0, 1<<32 - 1},
	} {
		_, err := resolver.ReadFrame(bytes.NewReader(frame(over[0], over[1])))
		if err == nil || !strings.Contains(err.Error(), "over ") {
			t.Errorf("frame of %d and %d bytes: %v", over[0], over[1], err)
		}
		_, _, err = resolver.ReadHeader(bytes.NewReader(answer(over[0], over[1])))
		if err == nil || !strings.Contains(err.Error(), "over ") {
			t.Errorf("answer of %d and %d bytes: %v", over[0], over[1], err)
		}
	}
}

// A length that is allowed but never arrives must not cost that much memory.
func TestMemoryFollowsWhatArrives(t *testing.T) {
	b := make([]byte, 25)
	binary.LittleEndian.PutUint32(b[17:], 64<<20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := resolver.ReadFrame(bytes.NewReader(b)); err != io.ErrUnexpectedEOF {
		t.Errorf("error %v", err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
		t.Errorf("%d bytes for a frame that never came", n)
	}
}

func TestTheTextOfAnUnclassifiedErrorIsNotSent(t *testing.T) {
	kind, meta := resolver.EncodeFailure(errors.New("dial postgres://u:hunter2@db: refused"))
	if kind != conn.Failed || bytes.Contains(meta, []byte("hunter2")) {
		t.Errorf("%v %s", kind, meta)
	}
	secret := &conn.Error{
		Kind: conn.Denied, Source: "metastore", Reason: "login refused", Hint: "look",
		Err: errors.New("hunter2"),
	}
	kind, meta = resolver.EncodeFailure(fmt.Errorf("hunter2: %w", secret))
	if bytes.Contains(meta, []byte("hunter2")) {
		t.Errorf("%s", meta)
	}
	err := resolver.DecodeFailure(resolver.Header{Kind: kind}, meta)
	if got := err.Error(); got != "metastore: denied: login refused (look)" {
		t.Errorf("%q", got)
	}
	if err := resolver.DecodeFailure(
		resolver.Header{Kind: conn.Timeout}, []byte("not JSON"),
	); conn.KindOf(err) != conn.Timeout {
		t.Errorf("%v", err)
	}
}

func TestListingsRoundTrip(t *testing.T) {
	for _, l := range []*resolver.Listing{
		{Complete: true, Calls: 7},
		{
			IDs: []string{"a", "a\nb", "\xff", "ü"},
			Failed: []resolver.Answer{
				{
					Backend: "metastore", Result: "timeout", Kind: conn.Timeout, Hint: "h",
					Duration: time.Second,
				},
			},
		},
	} {
		got, err := resolver.DecodeListing(resolver.EncodeListing(l))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(l, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	if _, err := resolver.DecodeListing([]byte("{"), nil); err == nil {
		t.Error("no error for a broken listing")
	}
}

func FuzzReadFrame(f *testing.F) {
	var b bytes.Buffer
	resolver.WriteFrame(&b, &resolver.Frame{
		Op: resolver.OpGet, ID: 7, Timeout: time.Second, Meta: []byte("json"), Body: []byte("id"),
	})
	f.Add(b.Bytes())
	f.Add(bytes.Repeat([]byte{0xff}, 30))
	f.Fuzz(func(t *testing.T, in []byte) {
		frame, err := resolver.ReadFrame(bytes.NewReader(in))
		if err != nil {
			return
		}
		// A frame that was read is written again as it was.
		var out bytes.Buffer
		if err := resolver.WriteFrame(&out, frame); err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(in, out.Bytes()) {
			t.Errorf("%x was read as %x", in, out.Bytes())
		}
	})
}

func FuzzReadHeader(f *testing.F) {
	var b bytes.Buffer
	resolver.WriteAnswer(&b, resolver.Header{ID: 7, OK: true, Digest: 9}, []byte("metastore"),
		[]byte("value"))
	f.Add(b.Bytes())
	kind, meta := resolver.EncodeFailure(conn.Errorf(conn.Absent, "x", "y"))
	b.Reset()
	resolver.WriteAnswer(&b, resolver.Header{ID: 8, Kind: kind}, meta, nil)
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		h, meta, err := resolver.ReadHeader(r)
		if err != nil {
			return
		}
		if int(h.Meta) != len(meta) || h.Body > 64<<20 {
			t.Errorf("%+v with %d bytes of meta", h, len(meta))
		}
		if !h.OK && resolver.DecodeFailure(h, meta).Error() == "" {
			t.Error("a failure without a word")
		}
		if l, err := resolver.DecodeListing(meta, in); err == nil && l == nil {
			t.Error("no listing and no error")
		}
	})
}
