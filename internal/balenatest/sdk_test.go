package balenatest

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dunlin/dunlin/internal/fleettest"
)

// TestTheStockSDKWorksUnchanged runs testdata/sdk.js, which asserts for itself.
func TestTheStockSDKWorksUnchanged(t *testing.T) {
	c := installed(t)
	machine := fleettest.MachineEngine(t)
	t.Parallel()
	s := fleettest.Start(t, bin, machine.Host)
	s.Project(project("what the SDK finds")).Push()
	script, err := filepath.Abs(filepath.Join("testdata", "sdk.js"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(c.node(), script)
	folder := t.TempDir()
	cmd.Dir = folder
	cmd.Env = []string{"HOME=" + folder, "NODE_PATH=" + filepath.Join(string(c), "node_modules"), "TZ=UTC",
		"API_URL=" + s.URL, "EMAIL=" + fleettest.Email, "PASSWORD=" + fleettest.Password, "FLEET=admin/porch", "FOLDER=" + folder}
	out, err := cmd.CombinedOutput()
	t.Logf("\n%s", out)
	if err != nil || strings.Count(string(out), "\nok ")+strings.Count(string(out), "not ok ") == 0 {
		t.Errorf("the script failed: %v", err)
	}
}
