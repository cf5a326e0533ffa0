package store_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The driver is C translated to Go against one version of its C library; another version is a different database.
func TestTheDriverHasTheLibraryItWasReleasedWith(t *testing.T) {
	list := func(format, module string) string {
		t.Helper()
		out, err := exec.Command("go", "list", "-m", "-f", format, module).Output()
		if err != nil {
			t.Fatalf("go list -m %s: %v", module, err)
		}
		return strings.TrimSpace(string(out))
	}
	released, err := os.ReadFile(list("{{.GoMod}}", "modernc.org/sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	if used := list("{{.Version}}", "modernc.org/libc"); !strings.Contains(string(released), "modernc.org/libc "+used+"\n") {
		t.Errorf("modernc.org/libc is %s; the driver was released with another one:\n%s", used, released)
	}
}
