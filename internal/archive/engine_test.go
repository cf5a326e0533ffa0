package archive_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dunlin/dunlin/internal/archive"
	"github.com/dunlin/dunlin/internal/fault"
)

// engine is a client of the container engine of this machine, and its address.
func engine(t *testing.T) (*http.Client, string) {
	t.Helper()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", strings.TrimPrefix(archive.DefaultEngine, "unix://"))
	}
	c := &http.Client{Transport: &http.Transport{DialContext: dial}}
	t.Cleanup(c.CloseIdleConnections)
	res, err := c.Get("http://engine/_ping")
	if err == nil {
		err = res.Body.Close()
	}
	if err != nil && os.Getenv("DUNLIN_TEST_REQUIRE") != "" {
		t.Fatalf("there is no container engine: %v", err)
	}
	if err != nil {
		t.Skipf("there is no container engine: %v", err)
	}
	return c, archive.DefaultEngine
}

func TestAnEngineTakesWhatIsWrittenAndGivesItBack(t *testing.T) {
	c, address := engine(t)
	s := newSample("linux/amd64", "below "+time.Now().String(), "above", "above")
	var layers []archive.Content
	for _, l := range s.layers {
		layers = append(layers, archive.Content{DiffID: sha(l), Size: int64(len(l)), Write: func(w io.Writer) error { return second(w.Write(l)) }})
	}
	const name = "dunlin-test-archive:1"
	var b bytes.Buffer
	if err := archive.Write(&b, s.config, []string{name}, layers); err != nil {
		t.Fatal(err)
	}
	res, err := c.Post("http://engine/images/load", "application/x-tar", &b)
	if err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(said), "Loaded image") {
		t.Fatalf("loading: %s: %s, %v", res.Status, said, err)
	}
	defer func() {
		req, err := http.NewRequest(http.MethodDelete, "http://engine/images/"+name, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := res.Body.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	for _, reference := range []string{name, sha(s.config), hexOf(sha(s.config))[:12]} {
		image, err := archive.FromEngine(t.Context(), address, reference, archive.Options{Dir: t.TempDir()})
		if err != nil {
			t.Fatalf("%s: %v", reference, err)
		}
		s.mustEqual(t, image)
		if err := image.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := archive.FromEngine(t.Context(), address, "dunlin-test-archive:2", archive.Options{}); !fault.Is(err, fault.NotFound) || fault.Hint(err) == "" {
		t.Errorf("an image that is not there: %v", err)
	}
	if _, err := archive.FromEngine(t.Context(), address, name, archive.Options{Platform: "linux/s390x"}); !fault.Is(err, fault.NotFound) {
		t.Errorf("an image for another platform: %v", err)
	}
}

func TestAnEngineThatCannotBeAskedIsSaid(t *testing.T) {
	for _, c := range []struct {
		engine, reference string
		want              fault.Kind
	}{
		{"unix://" + filepath.Join(t.TempDir(), "none.sock"), "porch:1", fault.Unavailable},
		{"ssh://somewhere", "porch:1", fault.Invalid},
		{"tcp://", "porch:1", fault.Invalid},
		{archive.DefaultEngine, "../../containers/json?all=1#", fault.Invalid},
		{archive.DefaultEngine, "porch/../../info", fault.Invalid},
		{archive.DefaultEngine, "-o", fault.Invalid},
		{archive.DefaultEngine, "", fault.Invalid},
	} {
		_, err := archive.FromEngine(t.Context(), c.engine, c.reference, archive.Options{})
		if !fault.Is(err, c.want) || fault.Hint(err) == "" {
			t.Errorf("%s from %s: %v (hint %q), want %v", c.reference, c.engine, err, fault.Hint(err), c.want)
		}
	}
}
