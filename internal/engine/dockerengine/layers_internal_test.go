package dockerengine

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestTheLowerFoldersOfARootAreFound(t *testing.T) {
	const mount = "90 59 0:42 / / rw,relatime master:7 - overlay overlay "
	for name, tt := range map[string]struct {
		mountinfo string
		want      []string
	}{
		"as Linux before 6.5 has them": {
			"20 19 0:3 / /proc rw - proc proc rw\n" + mount + "rw,lowerdir=/s/14/fs:/s/13/fs:/s/11/fs,upperdir=/s/15/fs,workdir=/s/15/work\n",
			[]string{"/s/11/fs", "/s/13/fs", "/s/14/fs"},
		},
		"as later ones may": {
			mount + "rw,lowerdir+=/s/14/fs,lowerdir+=/s/13/fs,upperdir=/s/15/fs",
			[]string{"/s/13/fs", "/s/14/fs"},
		},
		"relative to a folder that nobody names": {mount + "rw,lowerdir=14/fs:13/fs,upperdir=15/fs", nil},
		"with a name that is written otherwise":  {mount + `rw,lowerdir=/s\0401/fs:/s/13/fs,upperdir=15/fs`, nil},
		"another file system":                    {"90 59 0:42 / / rw - ext4 /dev/sda1 rw", nil},
		"no root":                                {"20 19 0:3 / /proc rw - proc proc rw", nil},
		"nothing":                                {"", nil},
		"half a line":                            {"90 59 0:42 / / rw - overlay", nil},
	} {
		if got := lowest(strings.NewReader(tt.mountinfo)); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
}

func TestFoldersAreLowestFirstAndWhereTheyAre(t *testing.T) {
	dir := t.TempDir()
	for _, layer := range []string{"a", "b", "c"} {
		if err := os.MkdirAll(filepath.Join(dir, layer, "diff"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "l"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../b/diff", filepath.Join(dir, "l", "SHORT")); err != nil {
		t.Fatal(err)
	}
	at := func(parts ...string) string { return filepath.Join(append([]string{dir}, parts...)...) }
	got := unpacked(map[string]string{"LowerDir": at("l", "SHORT") + ":" + at("a", "diff"), "UpperDir": at("c", "diff")})
	if want := []string{at("a", "diff"), at("b", "diff"), at("c", "diff")}; !slices.Equal(got, want) || !readable(got) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := unpacked(map[string]string{"UpperDir": at("c", "diff")}); !slices.Equal(got, []string{at("c", "diff")}) {
		t.Errorf("an image of one layer: %v", got)
	}
	if got := unpacked(nil); got != nil {
		t.Errorf("an image of which nothing is said: %v", got)
	}
	if got := unpacked(map[string]string{"LowerDir": at("a", "diff"), "UpperDir": at("gone", "diff")}); readable(got) {
		t.Errorf("%v can be read", got)
	}
}
