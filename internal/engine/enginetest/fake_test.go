package enginetest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dunlin/dunlin/internal/archive"
	"github.com/dunlin/dunlin/internal/engine"
	"github.com/dunlin/dunlin/internal/engine/enginetest"
)

func TestTheFakeKeepsTheContract(t *testing.T) {
	for _, c := range enginetest.Checks() {
		t.Run(c.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := enginetest.NewFake()
				c.Do(t, f, fixture(f))
			})
		})
	}
}

func fixture(f *enginetest.Fake) enginetest.Fixture {
	images := 0
	push := func(i enginetest.Image) string {
		images++
		ref := fmt.Sprintf("fake.test/v2/%032x@sha256:%064x", images, images+1_000_000)
		i.Size, i.Run = 1000, enginetest.Probe
		f.Push(ref, i)
		return ref
	}
	who := engine.Credentials{Username: "d_1", Password: "secret"}
	return enginetest.Fixture{
		Image: func(*testing.T) string { return push(enginetest.Image{}) },
		Slow: func(*testing.T) (string, func()) {
			ref := push(enginetest.Image{})
			return ref, f.Hold(ref)
		},
		Private: func(*testing.T) (string, engine.Credentials) {
			return push(enginetest.Image{Access: func(c engine.Credentials) bool { return c == who }}), who
		},
		Forged:    func(*testing.T) string { return push(enginetest.Image{Forged: true}) },
		Successor: func(t *testing.T) enginetest.Successor { return successor(t, f) },
		Foreign: func(t *testing.T, name string) func() error {
			f.Put(engine.State{
				Containers: []engine.Container{{Name: name, Status: engine.Running}},
				Networks:   []engine.Network{{Name: name}}, Volumes: []engine.Volume{{Name: name}},
			})
			only := func() (s engine.State) {
				for _, c := range f.All().Containers {
					if c.Name == name {
						s.Containers = append(s.Containers, c)
					}
				}
				s.Networks = slices.DeleteFunc(f.All().Networks, func(n engine.Network) bool { return n.Name != name })
				s.Volumes = slices.DeleteFunc(f.All().Volumes, func(v engine.Volume) bool { return v.Name != name })
				return s
			}
			before := only()
			return func() error {
				if after := only(); !reflect.DeepEqual(before, after) {
					return fmt.Errorf("before: %+v, after: %+v", before, after)
				}
				return nil
			}
		},
	}
}

// successor puts two images of two layers into the fake's registry.
func successor(t *testing.T, f *enginetest.Fake) enginetest.Successor {
	digest := func(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }
	base := rand.Text()
	image := func(top string) (ref string, i enginetest.Image, layers []archive.Content) {
		i = enginetest.Image{Layers: [][]byte{[]byte(base), []byte(strings.Repeat(top, 1000))}, Run: enginetest.Probe}
		var ids []string
		for _, l := range i.Layers {
			i.Size += int64(len(l))
			ids = append(ids, digest(l))
			layers = append(layers, archive.Content{DiffID: digest(l), Size: int64(len(l)), Write: func(w io.Writer) error {
				_, err := w.Write(l)
				return err
			}})
		}
		var err error
		i.Config, err = json.Marshal(map[string]any{"rootfs": map[string]any{"type": "layers", "diff_ids": ids}})
		must(t, err)
		ref = "fake.test/v2/" + strings.Repeat(top[:1], 32) + "@" + digest([]byte(top+base))
		f.Push(ref, i)
		return ref, i, layers
	}
	old, first, _ := image("old")
	next, second, layers := image("new")
	layers[0].Write = nil
	var b bytes.Buffer
	must(t, archive.Write(&b, second.Config, []string{engine.Loaded}, layers))
	return enginetest.Successor{
		Old: old, New: next, ID: digest(second.Config), DiffIDs: []string{digest(first.Layers[0]), digest(first.Layers[1])}, Archive: b.Bytes(),
		Travelled: func() int64 { return f.Fetched(next) },
	}
}

// bubble runs f with a new Fake that has the image ref, of 1000 bytes, in its registry.
func bubble(t *testing.T, do func(t *testing.T, f *enginetest.Fake, ref string)) {
	synctest.Test(t, func(t *testing.T) {
		f := enginetest.NewFake()
		ref := "fake.test/v2/" + strings.Repeat("a", 32) + "@sha256:" + strings.Repeat("b", 64)
		f.Push(ref, enginetest.Image{Size: 1000, Takes: 10 * time.Second, Run: enginetest.Probe})
		do(t, f, ref)
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAFullFakeRefusesAndKeepsWhatItHas(t *testing.T) {
	bubble(t, func(t *testing.T, f *enginetest.Fake, ref string) {
		must(t, f.Pull(t.Context(), ref, engine.Credentials{}, nil))
		big := strings.ReplaceAll(ref, "b", "c")
		f.Push(big, enginetest.Image{Size: 600})
		f.Capacity(1500)
		if err := f.Pull(t.Context(), big, engine.Credentials{}, nil); !errors.Is(err, engine.ErrDiskFull) {
			t.Errorf("got %v", err)
		}
		s, _ := f.Inspect(t.Context())
		if len(s.Images) != 1 || s.Images[0].References[0] != ref {
			t.Errorf("images: %+v", s.Images)
		}
		must(t, f.RemoveImage(t.Context(), ref))
		must(t, f.Pull(t.Context(), big, engine.Credentials{}, nil))
	})
}

func TestAPullCutShortFetchesOnlyTheRest(t *testing.T) {
	bubble(t, func(t *testing.T, f *enginetest.Fake, ref string) {
		ctx, cancel := context.WithTimeout(t.Context(), 5500*time.Millisecond)
		defer cancel()
		if err := f.Pull(ctx, ref, engine.Credentials{}, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
		if got := f.Fetched(ref); got != 500 {
			t.Errorf("%d bytes after 5.5 of 10 seconds", got)
		}
		began := time.Now()
		must(t, f.Pull(t.Context(), ref, engine.Credentials{}, nil))
		if got := f.Fetched(ref); got != 1000 {
			t.Errorf("%d bytes travelled for 1000", got)
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("the rest took %v", took)
		}
	})
}

func TestPullsFailAsOftenAsTheyAreTold(t *testing.T) {
	bubble(t, func(t *testing.T, f *enginetest.Fake, ref string) {
		broken := errors.New("connection reset by peer")
		f.Push(ref, enginetest.Image{Size: 10, Errors: []error{broken, engine.ErrDenied}})
		for _, want := range []error{broken, engine.ErrDenied, nil} {
			if err := f.Pull(t.Context(), ref, engine.Credentials{}, nil); !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
		}
	})
}

func TestACrashLoopBacksOff(t *testing.T) {
	bubble(t, func(t *testing.T, f *enginetest.Fake, ref string) {
		must(t, f.Pull(t.Context(), ref, engine.Credentials{}, nil))
		must(t, f.Create(t.Context(), engine.Container{Name: "web", Image: ref, Command: []string{"exit:1"}, Restart: "always"}))
		must(t, f.Start(t.Context(), "web"))
		time.Sleep(350 * time.Millisecond) // runs at 0, 0.1 and 0.3 s
		synctest.Wait()
		s, _ := f.Inspect(t.Context())
		if c := s.Containers[0]; c.Restarts != 3 || c.Status != engine.Restarting || c.ExitCode != 1 {
			t.Errorf("after 0.35 s: %+v", c)
		}
	})
}

func TestAnEngineThatIsAwayDoesNotAnswerAndItsContainersRunOn(t *testing.T) {
	bubble(t, func(t *testing.T, f *enginetest.Fake, ref string) {
		must(t, f.Pull(t.Context(), ref, engine.Credentials{}, nil))
		must(t, f.Create(t.Context(), engine.Container{Name: "web", Image: ref, Command: []string{"wait:1s", "exit:0"}}))
		must(t, f.Start(t.Context(), "web"))
		events := f.Events(t.Context())
		f.Away(true)
		if _, err := f.Inspect(t.Context()); !errors.Is(err, engine.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		time.Sleep(2 * time.Second)
		select {
		case <-events:
			t.Error("a token came from an engine that is away")
		default:
		}
		f.Away(false)
		<-events
		s, err := f.Inspect(t.Context())
		must(t, err)
		if s.Containers[0].Status != engine.Exited {
			t.Errorf("it did not run on: %+v", s.Containers[0])
		}
	})
}

func TestACallerIsStoppedBeforeOrAfterACall(t *testing.T) {
	bubble(t, func(t *testing.T, f *enginetest.Fake, ref string) {
		killed := errors.New("killed")
		f.Before("create volume data", func() error { return killed })
		f.After("create network", func() error { panic(killed) })
		if err := f.CreateVolume(t.Context(), engine.Volume{Name: "data"}); err != killed {
			t.Errorf("got %v", err)
		}
		must(t, f.CreateVolume(t.Context(), engine.Volume{Name: "other"}))
		func() {
			defer func() {
				if got := recover(); got != killed {
					t.Errorf("got %v", got)
				}
			}()
			f.CreateNetwork(t.Context(), engine.Network{Name: "net"})
		}()
		s, _ := f.Inspect(t.Context())
		if len(s.Volumes) != 1 || len(s.Networks) != 1 {
			t.Errorf("after the stops: %+v", s)
		}
		if got := f.Trace(); !slices.Equal(got, []string{"create volume other", "create network net"}) {
			t.Errorf("trace %q", got)
		}
	})
}

func TestAfterARestartOnlyWhatShouldRunRuns(t *testing.T) {
	bubble(t, func(t *testing.T, f *enginetest.Fake, ref string) {
		must(t, f.Pull(t.Context(), ref, engine.Credentials{}, nil))
		for _, c := range []engine.Container{
			{Name: "always", Restart: "always"}, {Name: "always-stopped", Restart: "always"}, {Name: "no", Restart: "no"},
			{Name: "unless", Restart: "unless-stopped"}, {Name: "unless-stopped", Restart: "unless-stopped"}, {Name: "created", Restart: "always"},
		} {
			c.Image = ref
			must(t, f.Create(t.Context(), c))
			if c.Name != "created" {
				must(t, f.Start(t.Context(), c.Name))
			}
			if strings.HasSuffix(c.Name, "-stopped") {
				must(t, f.Stop(t.Context(), c.Name, time.Second))
			}
		}
		f.Restart()
		s, _ := f.Inspect(t.Context())
		got := map[string]engine.Status{}
		for _, c := range s.Containers {
			got[c.Name] = c.Status
		}
		want := map[string]engine.Status{
			"always": engine.Running, "always-stopped": engine.Running, "no": engine.Exited,
			"unless": engine.Running, "unless-stopped": engine.Exited, "created": engine.Created,
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}
