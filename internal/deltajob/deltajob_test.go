package deltajob_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dunlin/dunlin/internal/deltajob"
	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
	"github.com/dunlin/dunlin/internal/store/storetest"
)

func TestDeltasAreMadeFromWhatDevicesRunNewestFirst(t *testing.T) {
	s := open(t, "thousand")
	for id := int64(1); id <= 4; id++ {
		s.release(home, id, noise("base", 9000), noise(fmt.Sprint("app", id), 50_000))
	}
	s.release(lair, 8, noise("secret", 50_000))
	for i := range int64(40) {
		s.device(home, 9100+i, 1+i%2) // half of them run 1, half run 2
	}
	s.device(home, 9200, 4)
	s.device(home, 9201, 0)
	s.target(home, 4)
	s.run()
	// 3 is the release before: devices that have said nothing may run it.
	for _, want := range []int64{3, 2, 1} {
		d := s.outcome()
		if d.Source.ID != want || d.Target.ID != 4 || d.Status != fleet.DeltaReady || !s.has(d) || d.Attempts != 1 {
			t.Errorf("%+v, and not the delta from %d", d, want)
		}
		// What both images begin with is not fetched either way.
		if d.Replaces < 50_000 || d.Replaces > 51_000 || d.Artifact.Size != 1000 {
			t.Errorf("%d bytes instead of %d", d.Artifact.Size, d.Replaces)
		}
	}
	if rows := s.text(`SELECT COUNT(*) FROM deltas`); rows != "3" {
		t.Errorf("there are %s rows", rows)
	}
	if left := s.atWork(); len(left) > 0 {
		t.Errorf("files are left: %s", left)
	}
	b, err := s.db.DeltaBase(t.Context(), 1, 4, "thousand")
	if err != nil || b.Size != 1000 || b.Replaces < 50_000 || b.Unsettled || b.Whole {
		t.Errorf("a device that runs 1 downloads %+v, %v", b, err)
	}
	counts, err := s.db.RunningReleases(t.Context(), fleet.Release{ID: 4, Fleet: home})
	if err != nil || counts[1] != 20 || counts[2] != 20 || len(counts) != 2 {
		t.Errorf("devices come from %v, %v", counts, err)
	}
}

func TestOrganizationsTakeTurns(t *testing.T) {
	s := open(t, "thousand")
	for id := int64(1); id <= 2; id++ {
		s.release(lair, id, noise(fmt.Sprint(id), 50_000))
	}
	for id := int64(5); id <= 8; id++ {
		s.release(home, id, noise(fmt.Sprint(id), 50_000))
	}
	s.device(home, 9100, 5)
	s.device(home, 9101, 6)
	s.device(lair, 9200, 1)
	s.target(home, 8)
	s.target(lair, 2)
	s.run()
	var order []string
	for range 4 {
		d := s.outcome()
		order = append(order, fmt.Sprint(d.Source.ID, " → ", d.Target.ID))
	}
	if got := strings.Join(order, ", "); got != "7 → 8, 1 → 2, 6 → 8, 5 → 8" {
		t.Errorf("made were %s", got)
	}
}

func TestADeviceThatIsPinnedGetsItsDeltaToo(t *testing.T) {
	s := open(t, "thousand")
	for id := int64(1); id <= 2; id++ {
		s.release(home, id, noise(fmt.Sprint(id), 50_000))
	}
	s.device(home, 9100, 2)
	s.exec(`UPDATE devices SET pinned_release = 1 WHERE id = 9100`)
	s.target(home, 2)
	s.run()
	got := map[string]bool{}
	for range 2 {
		d := s.outcome()
		got[fmt.Sprint(d.Source.ID, " → ", d.Target.ID)] = true
	}
	if !got["2 → 1"] || !got["1 → 2"] {
		t.Errorf("made were %v", got)
	}
}

func TestOurOwnDeltaIsAnArtifactBesideItsTarget(t *testing.T) {
	s := open(t, deltajob.Dunlin)
	base, app := noise("base", 60_000), noise("app", 200_000)
	changed := bytes.Clone(app)
	copy(changed[1000:], "a few other bytes")
	s.release(home, 1, base, app)
	s.release(home, 2, base, changed)
	s.target(home, 2)
	s.run()
	d := s.outcome()
	if d.Status != fleet.DeltaReady || d.Artifact.Size > 2000 || d.Replaces < 200_000 || d.Replaces > 202_000 {
		t.Fatalf("%+v", d)
	}
	manifest, err := s.images.Read(d.Target.Repository, d.Artifact.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	var m struct {
		ArtifactType string
		Subject      struct{ Digest, MediaType string }
		Layers       []struct {
			Digest, MediaType string
			Size              int64
		}
		Annotations map[string]string
	}
	if err := json.Unmarshal(manifest, &m); err != nil {
		t.Fatal(err)
	}
	if m.ArtifactType != "application/vnd.dunlin.delta.v1" || m.Subject.Digest != d.Target.Digest || len(m.Layers) != 1 ||
		m.Layers[0].Digest != d.Artifact.Blob || m.Layers[0].Size != d.Artifact.Size ||
		m.Annotations["io.dunlin.delta.from"] != d.Artifact.From || m.Annotations["io.dunlin.delta.to"] != d.Artifact.To ||
		d.Artifact.Name != "@"+d.Artifact.Manifest {
		t.Errorf("the manifest is %s", manifest)
	}
	f, err := s.images.Open(d.Target.Repository, d.Artifact.Blob)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() // only read
	if info, err := f.Stat(); err != nil || info.Size() != d.Artifact.Size {
		t.Errorf("the blob has %d bytes, %v", info.Size(), err)
	}
}

func TestManyDevicesThatAskWaitForOneJob(t *testing.T) {
	s := open(t, "thousand", "slow")
	s.release(home, 1, noise("1", 50_000))
	s.release(home, 2, noise("2", 50_000))
	s.target(home, 2)
	s.Wait = time.Minute
	const devices = 30
	for i := range int64(devices) {
		s.device(home, 9100+i, 0)
	}
	s.run()
	s.outcome() // the format that is made by itself
	var all sync.WaitGroup
	for i := range int64(devices) {
		all.Go(func() {
			d, err := s.Find(t.Context(), question(1, 2, "slow", 9100+i))
			if err != nil || d.Status != fleet.DeltaReady || d.Artifact.Size != 1000 {
				t.Errorf("device %d: %+v, %v", i, d, err)
			}
		})
	}
	s.until("the encoder began", func() bool { _, err := os.Stat(filepath.Join(s.dir, "begun")); return err == nil })
	if err := os.WriteFile(filepath.Join(s.dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	if got := s.text(`SELECT COUNT(*) || ' ' || MAX(attempts) FROM deltas WHERE format = 'slow'`); got != "1 1" {
		t.Errorf("rows and attempts are %s", got)
	}
}

func TestAServerThatIsKilledBeginsTheDeltaAgainAndLeavesNothing(t *testing.T) {
	source, dir := storetest.Source(t), t.TempDir()
	s := openAt(t, storetest.OpenAt(t, source), dir, "slow")
	s.release(home, 1, noise("1", 50_000))
	s.release(home, 2, noise("2", 50_000))
	s.target(home, 2)

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	server := exec.Command(self, serverMode, source, dir)
	server.Stderr = os.Stderr
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	begun := filepath.Join(dir, "begun")
	encoder := 0
	s.until("the encoder began", func() bool {
		text, err := os.ReadFile(begun)
		encoder, _ = strconv.Atoi(string(text))
		return err == nil && encoder > 0
	})
	if nice, err := syscall.Getpriority(syscall.PRIO_PROCESS, encoder); err != nil || nice != 20-15 { // the kernel counts from the other end
		t.Errorf("the encoder has priority %d, %v", nice, err)
	}
	if len(s.atWork()) == 0 {
		t.Fatal("nothing is at work")
	}
	if err := server.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = server.Wait() // it was killed
	s.until("the encoder ended with its server", func() bool { return syscall.Kill(encoder, 0) != nil })
	if status := s.text(`SELECT status FROM deltas`); status != "running" {
		t.Errorf("the row is %s", status)
	}
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.run()
	d := s.outcome()
	if d.Status != fleet.DeltaReady || !s.has(d) || d.Attempts != 2 {
		t.Errorf("%+v", d)
	}
	if left := s.atWork(); len(left) > 0 {
		t.Errorf("files are left: %s", left)
	}
}

func TestAServerThatStopsPutsTheDeltaBack(t *testing.T) {
	s := open(t, "slow")
	s.release(home, 1, noise("1", 50_000))
	s.release(home, 2, noise("2", 50_000))
	s.target(home, 2)
	s.run()
	s.until("the encoder began", func() bool { _, err := os.Stat(filepath.Join(s.dir, "begun")); return err == nil })
	s.stop()
	if got := s.text(`SELECT status || ' ' || attempts FROM deltas`); got != "waiting 0" {
		t.Errorf("the row is %s", got)
	}
	if left := s.atWork(); len(left) > 0 {
		t.Errorf("files are left: %s", left)
	}
}

func TestWhatNobodyNeedsIsGivenUp(t *testing.T) {
	for name, gone := range map[string]func(s *shop){
		"another target":      func(s *shop) { s.target(home, 3) },
		"the row was removed": func(s *shop) { s.exec(`DELETE FROM deltas`) },
		"the release went": func(s *shop) {
			s.exec(`UPDATE fleets SET target_release = NULL WHERE id = $1`, home)
			s.exec(`DELETE FROM releases WHERE id = 2`)
			s.exec(`DELETE FROM images WHERE id = 2`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, "slow")
			s.release(home, 1, noise("1", 50_000))
			s.release(home, 2, noise("2", 50_000))
			s.device(home, 9100, 1)
			s.target(home, 2)
			s.run()
			begun := filepath.Join(s.dir, "begun")
			s.until("the encoder began", func() bool { _, err := os.Stat(begun); return err == nil })
			text, err := os.ReadFile(begun)
			if err != nil {
				t.Fatal(err)
			}
			encoder, err := strconv.Atoi(string(text))
			if err != nil {
				t.Fatal(err)
			}
			s.release(home, 3, noise("1", 50_000)) // as 1: devices that run 1 have nothing to fetch
			gone(s)
			s.until("the encoder ended", func() bool { return syscall.Kill(encoder, 0) != nil })
			if name != "the row was removed" { // it is still needed, and made anew
				s.until("the row went", func() bool { return s.text(`SELECT COUNT(*) FROM deltas WHERE target = 2`) == "0" })
			}
		})
	}
}

func TestADeltaThatIsNotSmallerIsNotOffered(t *testing.T) {
	s := open(t, "large")
	s.release(home, 1, noise("1", 50_000))
	s.release(home, 2, noise("2", 50_000))
	s.device(home, 9100, 1)
	s.target(home, 2)
	s.run()
	d := s.outcome()
	if d.Status != fleet.DeltaUseless || d.Reason == "" || d.Replaces < 50_000 {
		t.Errorf("%+v", d)
	}
	if _, err := s.Find(t.Context(), question(1, 2, "large", 9100)); !fault.Is(err, fault.NotFound) {
		t.Errorf("it is offered: %v", err)
	}
	if files, err := filepath.Glob(filepath.Join(s.dir, "registry/docker/registry/v2/repositories", d.Target.Repository, "_layers/sha256/*")); err != nil || len(files) != 2 {
		t.Errorf("the repository has %s, %v", files, err)
	}
}

func TestImagesWithTheSameLayersNeedNoDelta(t *testing.T) {
	s := open(t, "broken")
	s.release(home, 1, noise("1", 50_000))
	s.release(home, 2, noise("1", 50_000))
	s.target(home, 2)
	s.run()
	if d := s.outcome(); d.Status != fleet.DeltaUseless || !strings.Contains(d.Reason, "same layers") || d.Attempts != 1 {
		t.Errorf("%+v", d)
	}
}

func TestWhatGoesWrongIsTriedAgainAndThenKeptWithItsReason(t *testing.T) {
	for format, want := range map[string]struct {
		reason string
		tries  int64
	}{
		"broken":     {"the moon is full", 4},
		"crashing":   {"index out of range", 4},
		"impossible": {"a layer is no tar", 1},
		"no format":  {`there is no format "no format"`, 1},
		"spreading":  {"takes more room than there is", 1},
	} {
		t.Run(format, func(t *testing.T) {
			s := open(t, format)
			s.Space = 3000
			s.release(home, 1, noise("1", 50_000))
			s.release(home, 2, noise("2", 50_000))
			s.target(home, 2)
			s.run()
			for i := int64(1); i <= want.tries; i++ {
				d := s.outcome()
				status := fleet.DeltaWaiting
				if i == want.tries {
					status = fleet.DeltaFailed
				}
				if d.Status != status || d.Attempts != i || !strings.Contains(d.Reason, want.reason) || strings.Contains(d.Reason, s.dir) {
					t.Errorf("attempt %d: %s after %d: %s", i, d.Status, d.Attempts, d.Reason)
				}
			}
			if left := s.atWork(); len(left) > 0 {
				t.Errorf("files are left: %s", left)
			}
			if _, err := s.Find(t.Context(), question(1, 2, format, 0)); !fault.Is(err, fault.NotFound) {
				t.Errorf("it is offered: %v", err)
			}
		})
	}
}

func TestImagesThatUnpackToMoreThanThereIsRoomForMakeNoDeltaAndDropNone(t *testing.T) {
	for _, format := range []string{deltajob.Dunlin, deltajob.Librsync} {
		t.Run(format, func(t *testing.T) {
			s := open(t, format)
			s.Space = 200_000
			s.release(home, 1, noise("1", 50_000), noise("a", 5000))
			s.release(home, 2, noise("1", 50_000), append(noise("a", 5000), "more"...))
			s.release(home, 3, make([]byte, 2_000_000)) // two thousand bytes when it is compressed
			s.target(home, 2)
			s.run()
			first := s.outcome()
			if first.Status != fleet.DeltaReady {
				t.Fatalf("%+v", first)
			}
			s.release(home, 4, noise("4", 50_000))
			s.target(home, 4)
			if d := s.outcome(); d.Status != fleet.DeltaFailed || d.Attempts != 1 || !strings.Contains(d.Reason, "more room than there is") {
				t.Errorf("%+v", d)
			}
			if got := s.text(`SELECT status FROM deltas WHERE id = $1`, first.ID); got != "ready" {
				t.Error("another delta was dropped for what will never fit")
			}
			if left := s.atWork(); len(left) > 0 {
				t.Errorf("files are left: %s", left)
			}
		})
	}
}

func TestAnAttemptThatTakesTooMuchMemoryIsEnded(t *testing.T) {
	if raced {
		t.Skip("the race detector's memory cannot be bounded")
	}
	s := open(t, "greedy")
	s.release(home, 1, noise("1", 50_000))
	s.release(home, 2, noise("2", 50_000))
	s.target(home, 2)
	s.run()
	if d := s.outcome(); d.Status != fleet.DeltaWaiting || !strings.Contains(d.Reason, "the encoder ended early") {
		t.Errorf("%+v", d)
	}
}

func TestAnAttemptThatTakesTooLongIsEnded(t *testing.T) {
	s := open(t, "slow")
	s.Limit = 50 * time.Millisecond
	s.release(home, 1, noise("1", 50_000))
	s.release(home, 2, noise("2", 50_000))
	s.target(home, 2)
	s.run()
	if d := s.outcome(); d.Status != fleet.DeltaWaiting || !strings.Contains(d.Reason, "longer than 50ms") {
		t.Errorf("%+v", d)
	}
}

func TestDeltasThatWereNotUsedForTheLongestTimeMakeRoom(t *testing.T) {
	s := open(t, "thousand")
	s.Space = 2500
	var clock struct {
		sync.Mutex
		time.Time
	}
	clock.Time = time.Now()
	s.Now = func() time.Time {
		clock.Lock()
		defer clock.Unlock()
		return clock.Time
	}
	for id := int64(1); id <= 4; id++ {
		s.release(home, id, noise(fmt.Sprint(id), 50_000))
	}
	s.device(home, 9100, 1)
	s.device(home, 9101, 2)
	s.target(home, 3)
	s.run()
	first, second := s.outcome(), s.outcome() // 2 → 3 and 1 → 3
	clock.Lock()
	clock.Time = clock.Add(time.Hour)
	clock.Unlock()
	if _, err := s.Find(t.Context(), question(first.Source.ID, 3, "thousand", 0)); err != nil {
		t.Fatal(err)
	}
	s.exec(`UPDATE devices SET running_release = 3`)
	s.target(home, 4) // 3 → 4
	third := s.outcome()
	if third.Status != fleet.DeltaReady || !s.has(third) || !s.has(first) || s.has(second) {
		t.Errorf("the registry has the first: %v, the second: %v, the third: %v", s.has(first), s.has(second), s.has(third))
	}
	if got := s.text(`SELECT status FROM deltas WHERE id = $1`, second.ID); got != "dropped" {
		t.Errorf("the one that made room is %s", got)
	}
	// Nobody makes it again by himself, and who asks gets it.
	s.exec(`UPDATE devices SET running_release = 1, pinned_release = 3 WHERE id = 9100`)
	s.Wait = time.Minute
	d, err := s.Find(t.Context(), question(1, 3, "thousand", 9100))
	if err != nil || d.ID != second.ID || !s.has(d) {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestWhoAsksIsToldHowItStands(t *testing.T) {
	s := open(t, "thousand", "slow")
	for id := int64(1); id <= 3; id++ {
		s.release(home, id, noise(fmt.Sprint(id), 50_000))
	}
	s.release(lair, 8, noise("8", 50_000))
	s.release(lair, 9, noise("9", 50_000))
	s.exec(`UPDATE releases SET status = 'failed' WHERE id = 3`)
	s.device(home, 9100, 0)
	s.device(lair, 9200, 0)
	s.target(home, 2)
	s.run()
	s.outcome()
	never := func(what string, q deltajob.Question) {
		t.Helper()
		rows := s.text(`SELECT COUNT(*) FROM deltas`)
		if d, err := s.Find(t.Context(), q); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: %+v, %v", what, d, err)
		}
		if now := s.text(`SELECT COUNT(*) FROM deltas`); now != rows {
			t.Errorf("%s: there are %s rows, and were %s", what, now, rows)
		}
	}
	never("a format that nobody makes", question(1, 2, "librsync", 9100))
	never("a target the device is not to run", question(2, 1, "slow", 9100))
	never("a source that is no good release", question(3, 2, "slow", 9100))
	never("another tenant's source", question(8, 2, "slow", 9100))
	never("another tenant's device", question(1, 2, "slow", 9200))
	never("nobody who may have one made", question(1, 2, "slow", 0))
	never("an image that is not there", question(77, 2, "slow", 9100))
	never("the same image", question(2, 2, "slow", 9100))
	wrong := question(1, 2, "slow", 9100)
	wrong.TargetDigest = digest([]byte("another"))
	never("another build of the image", wrong)
	wrong.Format = "thousand"
	never("another build of the image, whose delta is there", wrong)

	d, err := s.Find(t.Context(), question(1, 2, "thousand", 9200))
	if err != nil || !s.has(d) {
		t.Errorf("one that is there: %v", err) // who may not pull the images is turned away before
	}
	if _, err := s.Find(t.Context(), question(1, 2, "slow", 9100)); !fault.Is(err, fault.Unavailable) || fault.RetryAfter(err) == 0 {
		t.Errorf("one that is being made: %v", err)
	}
	s.Wait = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan error)
	go func() {
		_, err := s.Find(ctx, question(1, 2, "slow", 9100))
		asked <- err
	}()
	cancel()
	if err := <-asked; err == nil {
		t.Error("a device that left got a delta")
	}
	// The other fleet's row is not in the way, nor seen.
	if got := s.text(`SELECT COUNT(*) FROM deltas WHERE format = 'slow'`); got != "1" {
		t.Errorf("%s rows", got)
	}
}

func TestADeviceCannotFillTheQueue(t *testing.T) {
	s := open(t, "thousand", "slow")
	const releases = 20
	for id := int64(1); id <= releases; id++ {
		s.release(home, id, noise(fmt.Sprint(id), 2000))
	}
	s.exec(`UPDATE fleets SET target_release = $1 WHERE id = $2`, releases, home)
	s.device(home, 9100, 0)
	made := 0
	for id := int64(1); id < releases; id++ {
		if _, err := s.Find(t.Context(), question(id, releases, "slow", 9100)); fault.Is(err, fault.Unavailable) {
			made++
		} else if !fault.Is(err, fault.NotFound) {
			t.Fatal(err)
		}
	}
	if rows := s.text(`SELECT COUNT(*) FROM deltas WHERE format = 'slow'`); made != 16 || rows != "16" {
		t.Errorf("%d are to be made, %s rows", made, rows)
	}
}

func TestUseIsCountedAndWhatItSaves(t *testing.T) {
	s := open(t, "thousand")
	saved := make(chan int64, 10)
	s.Saved = func(n int64) { saved <- n }
	s.release(home, 1, noise("1", 50_000))
	s.release(home, 2, noise("2", 50_000))
	s.target(home, 2)
	s.run()
	d := s.outcome()
	s.Sent(d.Target.Repository, d.Artifact.Blob)
	s.Sent(d.Target.Repository, d.Artifact.Blob)
	s.Sent(d.Target.Repository, d.Target.Digest) // the image itself is no delta
	s.stop()
	if got := s.text(`SELECT used FROM deltas`); got != "2" || len(saved) != 2 || <-saved != d.Replaces-1000 {
		t.Errorf("it was used %s times, and told %d times", got, len(saved))
	}
	// The next server knows it from the first moment.
	again := openAt(t, s.db, s.dir, "thousand")
	if err := again.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	again.Saved = s.Saved
	again.Sent(d.Target.Repository, d.Artifact.Blob)
	if len(saved) != 2 {
		t.Error("after a restart it is not known")
	}
}

func TestWhatNoRowNamesIsCollected(t *testing.T) {
	s := open(t, "thousand")
	for id := int64(1); id <= 3; id++ {
		s.release(home, id, noise(fmt.Sprint(id), 50_000))
	}
	s.device(home, 9100, 1)
	s.target(home, 3)
	s.run()
	one, two := s.outcome(), s.outcome()
	s.stop()
	s.exec(`DELETE FROM deltas WHERE id = $1`, one.ID)
	if err := s.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.images.Read(one.Target.Repository, one.Artifact.Manifest); err == nil {
		t.Error("the artifact without a row is there")
	}
	if !s.has(two) {
		t.Error("the artifact with a row is gone")
	}
	if _, err := s.images.Read(one.Target.Repository, one.Target.Digest); err != nil {
		t.Errorf("the image is gone: %v", err)
	}
	s.exec(`DELETE FROM deltas`)
	s.Gone(t.Context(), []fleet.Delta{two})
	if s.has(two) {
		t.Error("a delta that was removed is in the registry")
	}
}

// The row of a delta is there before it: what the database says is the same on both engines.
func TestADeltaIsAskedForOnceHoweverManyAskAtTheSameTime(t *testing.T) {
	s := open(t, "thousand")
	s.release(home, 1, noise("1", 50_000))
	s.release(home, 2, noise("2", 50_000))
	s.exec(`UPDATE fleets SET target_release = 2 WHERE id = $1`, home)
	var all sync.WaitGroup
	for i := range int64(8) {
		s.device(home, 9100+i, 0)
		all.Go(func() {
			d, found, err := s.db.AskDelta(t.Context(), store.DeltaQuestion{
				Source: fmt.Sprintf("v2/%032x", 1), Target: fmt.Sprintf("v2/%032x", 2), Format: "thousand", Device: 9100 + i, Most: 1})
			if err != nil || !found || d.Status != fleet.DeltaWaiting {
				t.Errorf("%+v, %v, %v", d, found, err)
			}
		})
	}
	all.Wait()
	if got := s.text(`SELECT COUNT(*) FROM deltas`); got != "1" {
		t.Errorf("%s rows", got)
	}
}
