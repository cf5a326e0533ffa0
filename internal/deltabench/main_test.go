package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// results writes what was measured, as scripts/bench-delta does.
func results(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestTheTablesSayWhatWasMeasured(t *testing.T) {
	page := filepath.Join(results(t, map[string]string{"page.md": "# Before\n\n" + begin + "\nold\n" + end + "\n\nafter\n"}), "page.md")
	dir := results(t, map[string]string{
		"b/sizes": "2048 1048576", "b/pull": "409600 1.00 2048 0.50 3072\n", "b/balena": "204800 2.00 1024 0.25 1024\n",
		"b/bsdiff": "", "b/zstd22-patch": "102400 9.99 2097152 0.10 1024\n", "b/dunlin": "25600 3.04 204800 0.33 20480\n",
		"b/librsync": "102400 4.00 1024 - -\n",
		"a/sizes":    "2048 1024", "a/pull": "1000 0.01 1024 0.01 1024", "a/balena": "2000 0.01 1024 0.01 1024", "a/dunlin": "500 0.01 1024 0.01 1024",
		"c/log": "nothing was measured of this one",
	})
	if err := run([]string{dir, page}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	got := string(b)
	for _, want := range []string{
		"# Before\n\n" + begin + "\n\nBytes", end + "\n\nafter\n",
		"| a | 1.0 | 0.98 | - | 2.0 | - | - | - | - | - | 0.49 | - |\n| b | 1024 | 400 | - | 200 | - | - | - | - | 100 | 25.0 | 100 |\n",
		"| a | 0.50 | 0.25 | - |\n| b | 0.25 | 0.12 | 0.50 |\n| **median** | **0.38** | **0.19** | **0.50** |\n",
		"| b | 3.0 / 200 | 1.0 / 2 | 2.0 / 1 | - | 10.0 / 2048 |\n",
		"| b | 0.3 / 20 | 0.5 / 3 | 0.2 / 1 | - | 0.1 / 1 |\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the page has not\n%s\nin\n%s", want, got)
		}
	}
	if strings.Contains(got, "old\n") || strings.Contains(got, "| c ") {
		t.Errorf("the page has what should not be there:\n%s", got)
	}

	before := got
	if err := run([]string{dir, page}); err != nil {
		t.Fatal(err)
	}
	if b, err = os.ReadFile(page); err != nil || string(b) != before {
		t.Errorf("written twice, the page is another: %v\n%s", err, b)
	}
}

func TestWhatCannotBeReadIsNoTable(t *testing.T) {
	page := filepath.Join(results(t, map[string]string{"page.md": begin + "\n" + end + "\n"}), "page.md")
	for name, files := range map[string]map[string]string{
		"a word for a number": {"a/sizes": "1 1", "a/pull": "x 1 1 1 1"},
		"too few numbers":     {"a/sizes": "1 1", "a/pull": "1 1 1"},
		"no sizes":            {"a/sizes": "one"},
	} {
		if err := run([]string{results(t, files), page}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	bare := filepath.Join(results(t, map[string]string{"page.md": "# A page\n"}), "page.md")
	if err := run([]string{results(t, map[string]string{"a/sizes": "1 1"}), bare}); err == nil {
		t.Error("a page without marks was written")
	}
}
