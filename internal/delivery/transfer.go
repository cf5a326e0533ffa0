package delivery

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	// slack is what a transfer may cost beside its blob and a hundredth of it, in bytes.
	slack = 64 << 10
	// reserve is what a file system keeps free, in bytes.
	reserve = 16 << 20
	// forgiven is after how long a delta that came damaged twice is fetched again.
	forgiven = 24 * time.Hour
)

var (
	errBudget  = errors.New("the server sends again what was here already")
	errDamaged = errors.New("what the server sends is not what its digest says")
	errSpace   = errors.New("there is not the room for it")
	errStill   = errors.New("nothing more came")
)

// fetch brings the delta's bytes into a file and returns its path. There may be a part of it already, of this agent or
// of an earlier one. A file that is whole and wrong is begun anew, once,
// and then left alone for a day.
//
// It never asks the kernel to flush: the digest tells a file that a power cut has damaged, and a card that is written
// to seldom lives longer. A power cut costs what was received in the last half minute.
func (d *Delivery) fetch(ctx context.Context, s *session, o offer, m *meter) (string, error) {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return "", fmt.Errorf("make folder for deltas: %w", err)
	}
	name := stem(s.order.Image) + "-" + strings.TrimPrefix(o.Blob, "sha256:")
	first, second := filepath.Join(d.dir, name+".part"), filepath.Join(d.dir, name+".again")
	bad := filepath.Join(d.dir, name+".bad")
	d.discard(s.order.Image, name+".part", name+".again", name+".bad") // of another delta of the same image
	if info, err := os.Stat(bad); err == nil && time.Since(info.ModTime()) < forgiven {
		return "", errDamaged
	}
	for _, path := range []string{first, second} {
		if _, err := os.Stat(second); path == first && err == nil {
			continue
		}
		t := transfer{session: s, offer: o, free: d.free, meter: m}
		good, err := t.into(ctx, path)
		if err != nil || good {
			return path, err
		}
		d.log.Warn("a delta arrived damaged", "image", s.order.Image, "file", path)
		if path == first {
			if err := os.WriteFile(second, nil, 0o600); err != nil {
				return "", fmt.Errorf("begin the delta anew: %w", err)
			}
		}
		d.remove(path)
	}
	if err := os.WriteFile(bad, nil, 0o600); err != nil {
		return "", errors.Join(errDamaged, err)
	}
	return "", errDamaged
}

// transfer is one blob on its way into one file.
type transfer struct {
	*session
	offer offer
	free  func(path string) (int64, error)
	meter *meter
	file  *os.File
	at    int64 // bytes in the file
	spent int64 // bytes received for it
}

// into fills the file and reports whether what is in it then is right.
func (t *transfer) into(ctx context.Context, path string) (good bool, err error) {
	t.file, err = os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return false, fmt.Errorf("open file for the delta: %w", err)
	}
	defer t.file.Close()
	if t.at, err = t.file.Seek(0, io.SeekEnd); err != nil {
		return false, err
	}
	if t.at > t.offer.Size {
		if err := t.restart(); err != nil {
			return false, err
		}
	}
	t.spent = t.at
	room, err := t.free(filepath.Dir(path))
	if err != nil {
		return false, fmt.Errorf("see what room there is for the delta: %w", err)
	}
	if need := t.offer.Size - t.at + reserve; need > room {
		return false, fmt.Errorf("fetch the delta: %w: %d of %d bytes are free", errSpace, room, need)
	}
	if err := t.fill(ctx); err != nil {
		return false, err
	}
	if _, err := t.file.Seek(0, io.SeekStart); err != nil {
		return false, err
	}
	h := sha256.New()
	if _, err := io.Copy(h, t.file); err != nil {
		return false, fmt.Errorf("read the delta back: %w", err)
	}
	return fmt.Sprintf("sha256:%x", h.Sum(nil)) == t.offer.Blob, nil
}

// restart empties the file.
func (t *transfer) restart() error {
	if _, err := t.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	t.at = 0
	return t.file.Truncate(0)
}

// fill asks for what is missing until nothing is.
func (t *transfer) fill(ctx context.Context) error {
	tries := t.order.Policy.tries()
	renewed := false
	for {
		t.meter.bytes(t.at, t.offer.Size)
		t.alive()
		if t.at == t.offer.Size {
			return nil
		}
		before := t.at
		err := t.more(ctx)
		if t.at == t.offer.Size {
			continue
		}
		// A connection that brought a good piece is none that failed.
		if t.at-before >= min(slack, t.offer.Size/100+1) {
			tries.went()
		}
		var r *refusal
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &r) && r.status == http.StatusUnauthorized && !renewed:
			t.token, renewed = "", true
			continue
		case !passing(err), errors.Is(err, errBudget), errors.Is(err, errFile):
			return err
		}
		if err := tries.again(ctx, patience(err), err); err != nil {
			return err
		}
	}
}

// errFile is about the file and not about the network.
var errFile = errors.New("write the delta")

// more is one request for all that is missing. It always has a reason for not having brought all.
func (t *transfer) more(ctx context.Context) error {
	const doing = "fetch the delta"
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := t.order.Policy.requestTimeout()
	watchdog := time.AfterFunc(idle, func() { cancel(errStill) })
	defer watchdog.Stop()
	explain := func(err error) error {
		if context.Cause(ctx) == errStill {
			err = errStill
		}
		return fmt.Errorf("%s: %w", doing, err)
	}
	if err := t.authorize(ctx); err != nil {
		return explain(err)
	}
	resp, err := t.send(ctx, t.blobURL(t.offer.Blob), http.Header{
		"Authorization": {"Bearer " + t.token}, "Range": {fmt.Sprintf("bytes=%d-", t.at)}, "Accept-Encoding": {"identity"},
	})
	if err != nil {
		return explain(err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusPartialContent && rangeStart(resp.Header) == t.at:
	case resp.StatusCode == http.StatusOK:
		if t.at > 0 {
			// The part is no use with this server: the next delivery begins without it.
			if err := t.restart(); err != nil {
				return fmt.Errorf("%w: %w", errFile, err)
			}
			if t.spent+t.offer.Size > t.budget() {
				return fmt.Errorf("%s: %w", doing, errBudget)
			}
		}
	default:
		return refused(doing, resp)
	}
	buffer := make([]byte, 32<<10)
	for t.at < t.offer.Size {
		n, err := resp.Body.Read(buffer[:min(int64(len(buffer)), t.offer.Size-t.at)])
		if n > 0 {
			watchdog.Reset(idle)
			t.spent += int64(n)
			if t.spent > t.budget() {
				return fmt.Errorf("%s: %w", doing, errBudget)
			}
			if _, err := t.file.Write(buffer[:n]); err != nil {
				return fmt.Errorf("%w: %w", errFile, err)
			}
			t.at += int64(n)
			t.meter.bytes(t.at, t.offer.Size)
		}
		if err != nil && t.at < t.offer.Size {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return explain(err)
		}
	}
	return nil
}

func (t *transfer) budget() int64 { return t.offer.Size + t.offer.Size/100 + slack }

// rangeStart is the first byte of an answer's Content-Range, or -1.
func rangeStart(h http.Header) int64 {
	text, ok := strings.CutPrefix(h.Get("Content-Range"), "bytes ")
	first, _, found := strings.Cut(text, "-")
	n, err := strconv.ParseInt(first, 10, 64)
	if !ok || !found || err != nil {
		return -1
	}
	return n
}
