package build_test

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/client"

	"github.com/dunlin/dunlin/internal/fault"
)

func TestABaseImageBehindALoginIsFetchedWithTheProjectsAccount(t *testing.T) {
	_, address := dock(t)
	private := newPrivate(t, "someone", "a-password")
	private.put(t, "base", "amd64", map[string]string{"from-base": "yes"})
	tree := map[string]string{"Dockerfile": "FROM " + private.host + "/base\nCOPY Dockerfile /\n"}
	if _, _, err := engineBuild(t, address, plant(t, tree), "amd64", newShelf(t).destination("c")); err == nil {
		t.Error("the base image was fetched without an account")
	}
	tree[".balena/registry-secrets.json"] = `{"` + private.host + `": {"username": "someone", "password": "a-password"}}`
	shelf := newShelf(t)
	d := shelf.destination("c")
	res, _, err := engineBuild(t, address, plant(t, tree), "amd64", d)
	if err != nil {
		t.Fatalf("build: %v (%s)", err, fault.Hint(err))
	}
	if files(t, shelf.image(t, d, res.Digest))["from-base"] != "yes" {
		t.Error("the image is not built on its base")
	}
}

func TestARegistryTheEngineDoesNotTrustIsServedByTheServerItself(t *testing.T) {
	c, address := dock(t)
	shelf := newShelfAt(t, outward(t))
	d := shelf.destination("d")
	res, out, err := engineBuild(t, address, plantTool(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY tool /tool\n"}), "amd64", d)
	if err != nil {
		t.Fatal(err)
	}
	if files(t, shelf.image(t, d, res.Digest))["tool"] != tool(t) {
		t.Error("the image lacks the tool")
	}
	if !strings.Contains(out, "the server pushes the image itself") {
		t.Error("the engine pushed the image")
	}
	noTag(t, c, d)
}

// outward is an address of this machine that is not the loopback.
func outward(t *testing.T) string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			return n.IP.String()
		}
	}
	t.Skip("this machine has no address but the loopback")
	return ""
}

// debian is the name of a small Debian in the engine. It is made once with mmdebstrap and kept: that takes a minute.
const debian = "dunlin-test-debian"

func haveDebian(t *testing.T, c *client.Client) {
	t.Helper()
	ctx := context.Background()
	if _, err := c.ImageInspect(ctx, debian); err == nil {
		return
	}
	if testing.Short() {
		t.Skipf("the engine has no %s, and making it takes a minute", debian)
	}
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		t.Skipf("the engine has no %s, and mmdebstrap is not installed to make it", debian)
	}
	name := filepath.Join(t.TempDir(), "debian.tar")
	made := exec.Command("mmdebstrap", "--variant=essential", "--quiet", "bookworm", name)
	if out, err := made.CombinedOutput(); err != nil {
		t.Skipf("mmdebstrap cannot make a Debian here: %v\n%s", err, out)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	imported, err := c.ImageImport(ctx, client.ImageImportSource{Source: f, SourceName: "-"}, debian+":latest", client.ImageImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, imported); err != nil {
		t.Fatal(err)
	}
}

func TestADebianDockerfileIsBuilt(t *testing.T) {
	c, address := dock(t)
	haveDebian(t, c)
	shelf := newShelf(t)
	d := shelf.destination("e")
	d.NoCache = true
	dir := plant(t, map[string]string{
		"Dockerfile.generic":  "not this one",
		"Dockerfile.template": "FROM " + debian + "\nWORKDIR /app\nRUN set -e; . /etc/os-release; \\\n    echo \"$ID for %%BALENA_ARCH%%\" | tee made\nCMD [\"cat\", \"made\"]\n",
	})
	res, out, err := engineBuild(t, address, dir, "amd64", d)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "| debian for amd64") {
		t.Error("the output of RUN is not shown")
	}
	if got := files(t, shelf.image(t, d, res.Digest))["app/made"]; got != "debian for amd64\n" {
		t.Errorf("RUN made %q", got)
	}
	if res.Size < 10e6 {
		t.Errorf("a Debian weighs %d bytes", res.Size)
	}
}
