package build_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/dunlin/dunlin/internal/build"
	"github.com/dunlin/dunlin/internal/fault"
)

// putIndex puts an index with an image for each platform, ARCH or ARCH/VARIANT.
func (p *private) putIndex(t *testing.T, repository string, platforms ...string) {
	t.Helper()
	index := v1.ImageIndex(empty.Index)
	for _, platform := range platforms {
		arch, variant, _ := strings.Cut(platform, "/")
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        made(t, arch, variant, map[string]string{"platform": platform}),
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch, Variant: variant}},
		})
	}
	ref, err := name.ParseReference(p.host + "/" + repository)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(ref, index, remote.WithAuth(p.auth)); err != nil {
		t.Fatal(err)
	}
}

func TestAnExternalServiceIsCopiedForTheFleetsProcessor(t *testing.T) {
	p := newPrivate(t, "someone", "a-password")
	p.putIndex(t, "many", "amd64", "arm/v6", "arm/v7", "arm64/v8")
	p.putIndex(t, "few", "amd64", "arm/v6")
	p.put(t, "one", "amd64", map[string]string{"platform": "amd64"})
	login := `{"` + p.host + `": {"username": "someone", "password": "a-password"}}`
	for _, c := range []struct{ name, image, arch, want, says, login string }{
		{"arm64 of many", "many", "aarch64", "arm64/v8", "", login},
		{"the newest variant that runs", "many", "armv7hf", "arm/v7", "", login},
		{"the older variant", "many", "rpi", "arm/v6", "", login},
		{"an older variant for want of a newer", "few", "armv7hf", "arm/v6", "", login},
		{"an image for one", "one", "amd64", "amd64", "", login},
		{"none for it", "few", "aarch64", "", "few has no image for linux/arm64", login},
		{"one for another", "one", "aarch64", "", "one is for linux/amd64, and the fleet needs linux/arm64", login},
		{"no such image", "none", "amd64", "", "there is no such image", login},
		{"no account", "one", "amd64", "", "the registry wants a login", "{}"},
	} {
		t.Run(c.name, func(t *testing.T) {
			shelf := newShelf(t)
			project := detect(t, plant(t, map[string]string{
				"docker-compose.yml":            "services:\n  x:\n    image: " + p.host + "/" + c.image + "\n",
				".balena/registry-secrets.json": c.login,
			}), c.arch)
			d := shelf.destination("a")
			b := &build.Builder{Work: t.TempDir(), Engine: "unix:///there/is/no/engine.sock", Private: []string{p.host}}
			res, err := b.Build(context.Background(), project, project.Services[0], d, &output{})
			if c.says != "" {
				if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), c.says) {
					t.Errorf("build said %v, want %q", err, c.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := files(t, shelf.image(t, d, res.Digest))["platform"]; got != c.want || res.Kind != build.KindExternal {
				t.Errorf("the image is for %q, want %q; %+v", got, c.want, res)
			}
		})
	}
}

func TestAnExternalServiceReachesNothingOfTheServersNetwork(t *testing.T) {
	asked := false
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer inside.Close()
	outside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			http.Redirect(w, r, inside.URL+r.URL.Path, http.StatusTemporaryRedirect)
		}
	}))
	defer outside.Close()
	host, secret := strings.TrimPrefix(outside.URL, "http://"), strings.TrimPrefix(inside.URL, "http://")
	_, port, _ := strings.Cut(secret, ":")
	for name, image := range map[string]string{
		"the loopback": secret + "/x", "localhost": "localhost:" + port + "/x", "a name below it": "a.localhost:" + port + "/x",
		"a private network": "10.1.2.3/x", "a link": "169.254.169.254/x", "nowhere": "0.0.0.0:" + port + "/x",
		"a redirect": host + "/x",
	} {
		t.Run(name, func(t *testing.T) {
			project := detect(t, plant(t, map[string]string{"docker-compose.yml": "services:\n  x:\n    image: " + image + "\n"}), "amd64")
			b := &build.Builder{Work: t.TempDir(), Private: []string{host}}
			_, err := b.Build(context.Background(), project, project.Services[0], newShelf(t).destination("a"), &output{})
			if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), "private network") || fault.Hint(err) == "" {
				t.Errorf("build said %v", err)
			}
			if asked {
				t.Error("the server asked a host of its own network")
			}
		})
	}
}

func TestAnExternalServiceMayNameTheDestinationsOwnRegistry(t *testing.T) {
	shelf := newShelf(t)
	project := detect(t, plant(t, map[string]string{"docker-compose.yml": "services:\n  x:\n    image: " + shelf.host + "/x\n"}), "amd64")
	b := &build.Builder{Work: t.TempDir()}
	_, err := b.Build(context.Background(), project, project.Services[0], shelf.destination("a"), &output{})
	if err == nil || strings.Contains(fault.Message(err), "private network") {
		t.Errorf("build said %v", err)
	}
}
