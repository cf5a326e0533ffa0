package cli

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestTarsBehindEachOtherAreReadAsOne(t *testing.T) {
	whole := []byte("the first tar, the second, and the third of them")
	var all tars
	end := 0
	for _, n := range []int{14, 0, 12, 22} {
		part := whole[end : end+n]
		end += n
		all = append(all, tarEnd{bytes.NewReader(part), int64(n), int64(end)})
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		at, n := random.IntN(len(whole)+2), random.IntN(len(whole)+2)
		got := make([]byte, n)
		read, err := all.ReadAt(got, int64(at))
		want := whole[min(at, len(whole)):min(at+n, len(whole))]
		if !bytes.Equal(got[:read], want) {
			t.Fatalf("%d bytes at %d: %q, want %q", n, at, got[:read], want)
		}
		if short := read < n; short != errors.Is(err, io.EOF) || !short && err != nil {
			t.Fatalf("%d bytes at %d: %d were read, and the error is %v", n, at, read, err)
		}
	}
}

func TestABarSaysHowFarItIs(t *testing.T) {
	for _, row := range []struct {
		done, all int64
		want      string
	}{
		{0, 0, "making…"},
		{5, 0, "making…"},
		{5, 4, "making…"},
		{0, 1000, "making  ────────────────────────   0 %  0 B of 1.0 kB"},
		{500, 1000, "making  ━━━━━━━━━━━━────────────   50 %  500 B of 1.0 kB"},
		{1000, 1000, "making  ━━━━━━━━━━━━━━━━━━━━━━━━ 100 %  1.0 kB of 1.0 kB"},
	} {
		b := &bar{what: "making"}
		b.set(row.done, row.all)
		if got := b.line(); strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(row.want), " ") {
			t.Errorf("%d of %d: %q, want %q", row.done, row.all, got, row.want)
		}
	}
}

func TestABarIsNotShownWhereNobodySees(t *testing.T) {
	var out bytes.Buffer
	b := newBar(&out, "making")
	b.set(1, 2)
	b.stop()
	if out.Len() > 0 {
		t.Errorf("%q was written to what is no terminal", out.String())
	}
}
