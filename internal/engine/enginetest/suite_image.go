package enginetest

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/engine"
)

var imageChecks = []check{
	{"AnEngineSaysWhatItIs", func(t *trial) {
		i, err := t.Info(t.Context())
		t.must(err)
		if i.Name == "" || i.Version == "" || i.Root == "" {
			t.Errorf("an engine without a name, version or folder: %+v", i)
		}
		if !slices.Contains([]string{"amd64", "arm64", "arm", "386", "riscv64"}, i.Arch) {
			t.Errorf("architecture %q is not named as Go names it", i.Arch)
		}
	}},
	{"APulledImageIsThereUnderItsReference", func(t *trial) {
		ref := t.fixture.Image(t.T)
		var p percents
		t.must(t.Pull(t.Context(), ref, engine.Credentials{}, p.add))
		t.Cleanup(func() { t.RemoveImage(context.Background(), ref) })
		if seen := p.all(); !slices.IsSorted(seen) || len(seen) == 0 || seen[len(seen)-1] != 100 || seen[0] < 0 {
			t.Errorf("progress %v does not rise to 100", seen)
		}
		i, ok := t.find(ref)
		if !ok {
			t.Fatalf("image %s is not there after its pull", ref)
		}
		if !strings.HasPrefix(i.ID, "sha256:") || i.Size <= 0 || !slices.IsSorted(i.References) {
			t.Errorf("image is described as %+v", i)
		}
	}},
	{"AnImageThatIsThereIsNotPulledAgain", func(t *trial) {
		ref, who := t.fixture.Private(t.T)
		t.pull(ref, who)
		var p percents
		t.must(t.Pull(t.Context(), ref, engine.Credentials{}, p.add)) // without credentials it could not be
		if seen := p.all(); !slices.Equal(seen, []int{100}) {
			t.Errorf("progress of a pull that had nothing to do: %v", seen)
		}
	}},
	{"AnUnknownReferenceIsNotFound", func(t *trial) {
		ref := t.fixture.Image(t.T)
		repository, _, _ := strings.Cut(ref, "@")
		t.mustBe(engine.ErrNotFound, t.Pull(t.Context(), repository+"@sha256:"+strings.Repeat("0", 64), engine.Credentials{}, nil))
	}},
	{"APrivateImageNeedsItsCredentials", func(t *trial) {
		ref, who := t.fixture.Private(t.T)
		t.mustBe(engine.ErrDenied, t.Pull(t.Context(), ref, engine.Credentials{}, nil))
		t.mustBe(engine.ErrDenied, t.Pull(t.Context(), ref, engine.Credentials{Username: who.Username, Password: "wrong"}, nil))
		if _, ok := t.find(ref); ok {
			t.Errorf("a refused image is there")
		}
		t.pull(ref, who)
	}},
	{"AForgedImageNeverHasItsName", func(t *trial) {
		ref := t.fixture.Forged(t.T)
		if err := t.Pull(t.Context(), ref, engine.Credentials{}, nil); err == nil {
			t.Error("a forged image was pulled")
		}
		if _, ok := t.find(ref); ok {
			t.Error("a forged image is there")
		}
	}},
	{"APullCutShortLeavesNoImageAndCanBeDoneAgain", func(t *trial) {
		ref, release := t.fixture.Slow(t.T)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var first percents
		done := make(chan error, 1)
		go func() { done <- t.Pull(ctx, ref, engine.Credentials{}, first.add) }()
		t.eventually(func() bool { return len(first.all()) > 0 }, func() { t.Error("nothing arrives") })
		cancel()
		select {
		case err := <-done:
			t.mustBe(context.Canceled, err)
		case <-time.After(patience):
			t.Fatal("a pull goes on after its context has ended")
		}
		if seen := first.all(); !slices.IsSorted(seen) || slices.Contains(seen, 100) {
			t.Errorf("progress of a pull cut short: %v", seen)
		}
		if _, ok := t.find(ref); ok {
			t.Fatal("half an image is there")
		}
		release()
		var second percents
		t.must(t.Pull(t.Context(), ref, engine.Credentials{}, second.add))
		t.Cleanup(func() { t.RemoveImage(context.Background(), ref) })
		if seen := second.all(); !slices.IsSorted(seen) || seen[len(seen)-1] != 100 {
			t.Errorf("progress of the second pull: %v", seen)
		}
		if _, ok := t.find(ref); !ok {
			t.Error("the image is not there after the second pull")
		}
	}},
	{"TwoPullsOfOneImageBothSucceed", func(t *trial) {
		ref := t.fixture.Image(t.T)
		done := make(chan error, 2)
		for range 2 {
			go func() { done <- t.Pull(t.Context(), ref, engine.Credentials{}, nil) }()
		}
		t.Cleanup(func() { t.RemoveImage(context.Background(), ref) })
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}},
	{"AnImageIsRemovedUnlessAContainerUsesIt", func(t *trial) {
		c := t.container("user")
		t.must(t.Create(t.Context(), c))
		if err := t.RemoveImage(t.Context(), c.Image); err == nil {
			t.Error("the image of a container was removed")
		}
		if _, ok := t.find(c.Image); !ok {
			t.Fatal("the image of a container is gone")
		}
		t.must(t.Remove(t.Context(), c.Name))
		t.must(t.RemoveImage(t.Context(), c.Image))
		if _, ok := t.find(c.Image); ok {
			t.Error("a removed image is there")
		}
		t.must(t.RemoveImage(t.Context(), c.Image))
	}},
}

// find returns the image that has the reference.
func (t *trial) find(ref string) (engine.Image, bool) {
	t.Helper()
	s, err := t.Inspect(t.Context())
	t.must(err)
	i := slices.IndexFunc(s.Images, func(i engine.Image) bool { return slices.Contains(i.References, ref) })
	if i < 0 {
		return engine.Image{}, false
	}
	return s.Images[i], true
}
