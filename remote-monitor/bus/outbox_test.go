package bus

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func open(t interface{ Fatal(...any) }, dir string, limit int) *Outbox {
	o, err := OpenOutbox(dir, limit)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// all gives what waits, oldest first.
func all(o *Outbox) (list []string) {
	for e, ok := o.Next(0); ok; e, ok = o.Next(e.Number) {
		list = append(list, string(e.Data))
	}
	return list
}

func put(t interface{ Fatal(...any) }, o *Outbox, list ...string) {
	for _, s := range list {
		o.Put([]byte(s))
	}
	if err := o.Store(); err != nil {
		t.Fatal(err)
	}
}

func files(dir string) []string {
	list, _ := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
	return list
}

func TestWhatWasNotDoneComesBackInOrder(t *testing.T) {
	dir := t.TempDir()
	o := open(t, dir, 0)
	put(t, o, "a", "b", "c", "d")
	first, _ := o.Next(0)
	o.Done(first.Number)
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	o = open(t, dir, 0)
	if d := cmp.Diff([]string{"b", "c", "d"}, all(o)); d != "" {
		t.Error(d)
	}
	// What is done after a restart stays done, too.
	first, _ = o.Next(0)
	o.Done(first.Number)
	put(t, o, "e")
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	o = open(t, dir, 0)
	defer o.Close()
	if d := cmp.Diff([]string{"c", "d", "e"}, all(o)); d != "" {
		t.Error(d)
	}
	if o.Waiting() != 3 || o.Dropped() != 0 {
		t.Errorf("%d wait, %d dropped", o.Waiting(), o.Dropped())
	}
}

func TestTheOldestMakeRoom(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		o := open(t, dir, 3)
		put(t, o, "a", "b", "c", "d", "e")
		if d := cmp.Diff([]string{"c", "d", "e"}, all(o)); d != "" {
			t.Error(d)
		}
		if o.Waiting() != 3 || o.Dropped() != 2 {
			t.Errorf("%d wait, %d dropped", o.Waiting(), o.Dropped())
		}
		if err := o.Close(); err != nil {
			t.Error(err)
		}
		if dir == "" {
			continue
		}
		o = open(t, dir, 2)
		if d := cmp.Diff([]string{"d", "e"}, all(o)); d != "" {
			t.Errorf("after the limit became less: %s", d)
		}
		if o.Waiting() != 2 || o.Dropped() != 1 {
			t.Errorf("%d wait, %d dropped", o.Waiting(), o.Dropped())
		}
		o.Close()
	}
}

func TestAnOutboxThatNobodyStoresHoldsNoMoreThanItsLimit(t *testing.T) {
	o := open(t, "", 3)
	for i := range 10 {
		o.Put([]byte{'0' + byte(i)})
	}
	if o.Waiting() != 3 || o.Dropped() != 7 {
		t.Errorf("%d wait, %d dropped", o.Waiting(), o.Dropped())
	}
	put(t, o)
	if d := cmp.Diff([]string{"7", "8", "9"}, all(o)); d != "" {
		t.Error(d)
	}
}

func TestManyBytesMakeRoomAsManyEntriesDo(t *testing.T) {
	dir := t.TempDir()
	o := open(t, dir, 1_000_000)
	defer o.Close()
	big := strings.Repeat("x", longestEntry)
	o.Put([]byte(big + "x"))
	if o.Waiting() != 0 || o.Dropped() != 1 {
		t.Errorf("an entry longer than allowed: %d wait, %d dropped", o.Waiting(), o.Dropped())
	}
	n := mostBytes/longestEntry + 5
	for range n {
		put(t, o, big)
	}
	if o.Waiting() != n-5 || o.Dropped() != 6 {
		t.Errorf("%d wait, %d dropped", o.Waiting(), o.Dropped())
	}
	var size int64
	for _, f := range files(dir) {
		i, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		if size += i.Size(); i.Size() > longestFile {
			t.Errorf("%s has %d bytes, more than would be read again", f, i.Size())
		}
	}
	if size > mostBytes+2*longestFile {
		t.Errorf("%d bytes on disk", size)
	}
}

func TestQuietTimesLeaveNothingOnDisk(t *testing.T) {
	dir := t.TempDir()
	o := open(t, dir, 0)
	for range 1000 {
		put(t, o, strings.Repeat("x", 300))
		e, _ := o.Next(0)
		o.Done(e.Number)
	}
	list := files(dir)
	if len(list) != 1 {
		t.Fatalf("files: %v", list)
	}
	if i, err := os.Stat(list[0]); err != nil || i.Size() != 0 {
		t.Errorf("%v, %v", i.Size(), err)
	}
	o.Close()
	open(t, dir, 0).Close()
	if list := files(dir); len(list) != 0 {
		t.Errorf("after a restart: %v", list)
	}
}

func TestAFolderHasOneOwner(t *testing.T) {
	dir := t.TempDir()
	o := open(t, dir, 0)
	if _, err := OpenOutbox(dir, 0); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("got %v", err)
	}
	o.Close()
	open(t, dir, 0).Close()
}

func TestADiskThatFailsCostsNothingWhileTheProgramRuns(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "outbox")
	o := open(t, dir, 0)
	defer o.Close()
	put(t, o, "a")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	o.out.Close()
	o.out = nil // as after a file that has grown long
	o.Put([]byte("b"))
	if err := o.Store(); err == nil || !strings.Contains(err.Error(), "kept in memory") {
		t.Errorf("got %v", err)
	}
	o.Put([]byte("c"))
	if err := o.Store(); err != nil {
		t.Errorf("told again: %v", err)
	}
	// What was on the disk is lost and counted; the rest is not.
	if d := cmp.Diff([]string{"b", "c"}, all(o)); d != "" {
		t.Error(d)
	}
	if o.Waiting() != 2 || o.Dropped() != 1 {
		t.Errorf("%d wait, %d dropped", o.Waiting(), o.Dropped())
	}
}

func TestAFileThatIsFullIsSyncedAndNotTheNext(t *testing.T) {
	o := open(t, t.TempDir(), 0)
	defer o.Close()
	for len(o.segments) < 2 {
		put(t, o, strings.Repeat("x", longestEntry))
	}
	if o.synced != o.last-1 {
		t.Errorf("synced up to %d of %d", o.synced, o.last)
	}
	if err := o.Sync(); err != nil || o.synced != o.last {
		t.Errorf("synced up to %d of %d, %v", o.synced, o.last, err)
	}
}

func TestADamagedRecordTakesNoOtherWithIt(t *testing.T) {
	dir := t.TempDir()
	o := open(t, dir, 0)
	put(t, o, "first", "second", "third")
	o.Close()
	path := files(dir)[0]
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[bytes.Index(b, []byte("second"))] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	o = open(t, dir, 0)
	defer o.Close()
	if d := cmp.Diff([]string{"first", "third"}, all(o)); d != "" {
		t.Error(d)
	}
}

// TestAnOutboxIsAQueue puts, takes and reopens at will, tears the last record off now and then, and compares with a
// slice.
func TestAnOutboxIsAQueue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "outbox")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		limit := rapid.IntRange(1, 40).Draw(t, "limit")
		o := open(t, dir, limit)
		defer func() { o.Close() }()
		var model []string
		next := 0
		check := func() {
			if d := cmp.Diff(model, all(o)); d != "" {
				t.Fatal(d)
			}
			if o.Waiting() != len(model) {
				t.Fatalf("%d wait of %d", o.Waiting(), len(model))
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				for range rapid.IntRange(1, 20).Draw(t, "n") {
					s := fmt.Sprint(next, strings.Repeat("x", rapid.SampledFrom([]int{0, 10, longestEntry - 10}).Draw(t, "size")))
					next++
					put(t, o, s)
					model = append(model, s)
				}
				model = model[max(0, len(model)-limit):]
			},
			"done": func(t *rapid.T) {
				n := rapid.IntRange(0, len(model)).Draw(t, "n")
				e := Entry{}
				for range n {
					e, _ = o.Next(e.Number)
				}
				o.Done(e.Number)
				if model = model[n:]; len(model) == 0 {
					model = nil
				}
			},
			"restart": func(t *rapid.T) {
				o.Close()
				o = open(t, dir, limit)
			},
			"killed while writing": func(t *rapid.T) {
				if len(model) == limit {
					t.Skip("the oldest may be gone or not")
				}
				o.Put([]byte("torn"))
				if err := o.Store(); err != nil {
					t.Fatal(err)
				}
				path := o.segments[len(o.segments)-1].path
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				at := bytes.LastIndex(b, []byte(recordMagic+string(kindEntry)))
				cut := rapid.IntRange(at, at+recordHeader+len("torn")-1).Draw(t, "cut")
				o.Close()
				if err := os.Truncate(path, int64(cut)); err != nil {
					t.Fatal(err)
				}
				o = open(t, dir, limit)
			},
			"": func(*rapid.T) { check() },
		})
	})
}

// TestAKilledWriterLosesNothingItStored kills a process that writes as fast as it can.
func TestAKilledWriterLosesNothingItStored(t *testing.T) {
	if dir := os.Getenv("OUTBOX_WRITER"); dir != "" {
		o := open(t, dir, 1_000_000)
		for i := 0; ; i++ {
			put(t, o, strconv.Itoa(i))
			fmt.Println("stored", i)
		}
	}
	for range 5 {
		dir := t.TempDir()
		cmd := exec.Command(os.Args[0], "-test.run=^TestAKilledWriterLosesNothingItStored$")
		cmd.Env = append(os.Environ(), "OUTBOX_WRITER="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines, said, until := bufio.NewScanner(out), -1, 50+rand.N(5000)
		for said < until && lines.Scan() {
			fmt.Sscanf(lines.Text(), "stored %d", &said)
		}
		cmd.Process.Kill()
		for lines.Scan() {
			fmt.Sscanf(lines.Text(), "stored %d", &said)
		}
		io.Copy(io.Discard, out)
		cmd.Wait()
		o := open(t, dir, 1_000_000)
		list := all(o)
		if len(list) <= said {
			t.Errorf("%d are left; the last that was said to be stored is %d", len(list), said)
		}
		for i, s := range list {
			if s != strconv.Itoa(i) {
				t.Fatalf("entry %d is %s", i, s)
			}
		}
		o.Close()
	}
}

func FuzzAnOutboxBearsAnyFile(f *testing.F) {
	f.Add(append(record{kindEntry, 1, []byte("one")}.encode(), record{kind: kindDone, number: 1}.encode()...))
	f.Add(append(record{kindEntry, 7, []byte("one")}.encode()[3:], record{kindEntry, 9, []byte("two")}.encode()...))
	f.Add([]byte(recordMagic + recordMagic + "e\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Add(record{kindEntry, highest + 1, nil}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, segmentName(3)), b, 0o600); err != nil {
			t.Fatal(err)
		}
		o := open(t, dir, 5)
		before := all(o)
		put(t, o, "new")
		if got := all(o); len(got) != min(5, len(before)+1) || got[len(got)-1] != "new" {
			t.Fatalf("%q after %q", got, before)
		}
		want := all(o)
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
		o = open(t, dir, 5)
		defer o.Close()
		if d := cmp.Diff(want, all(o)); d != "" {
			t.Error(d)
		}
	})
}

func BenchmarkAnEventThroughTheOutbox(b *testing.B) {
	o := open(b, b.TempDir(), 0)
	defer o.Close()
	data := bytes.Repeat([]byte("x"), 300)
	for b.Loop() {
		o.Put(data)
		if err := o.Store(); err != nil {
			b.Fatal(err)
		}
		e, _ := o.Next(0)
		o.Done(e.Number)
	}
}
