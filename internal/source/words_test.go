package source

import (
	"context"
	"io"
	"net/netip"
	"net/url"
	"path"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/fault"
)

func TestACommandNamesAServiceAndAFleetOrNothing(t *testing.T) {
	for line, want := range map[string]string{
		`git-receive-pack '/acme/porch.git'`:      "git-receive-pack acme/porch",
		`git-upload-pack 'acme/porch'`:            "git-upload-pack acme/porch",
		`git receive-pack "/git/Acme/Porch.git"`:  "git-receive-pack acme/porch",
		`git-upload-pack '/acme/'\''porch'`:       "",
		`git-upload-pack acme/porch`:              "git-upload-pack acme/porch",
		`git-upload-pack '/acme/porch.git/'`:      "git-upload-pack acme/porch",
		`git-upload-pack '../acme/porch.git'`:     "",
		`git-upload-pack '/acme/..'`:              "",
		`git-upload-pack '/acme/../../etc'`:       "",
		`git-upload-pack '/etc/passwd/x'`:         "",
		`git-upload-pack 'acme/porch' ; rm -rf /`: "",
		`git-upload-pack 'acme/porch`:             "",
		"git-upload-pack 'acme/po\x00rch'":        "",
		"git-upload-pack 'acme/porch\n'":          "",
		`git-upload-pack --help`:                  "",
		`git-upload-pack --upload-pack=x 'a/b'`:   "",
		`git-upload-pack`:                         "",
		`git-upload-archive 'acme/porch'`:         "",
		`git-shell -c ls`:                         "",
		`ls`:                                      "",
		``:                                        "",
	} {
		service, slug, err := parseCommand(line)
		if got := strings.TrimSpace(service + " " + slug); err == nil && got != want || err != nil && want != "" {
			t.Errorf("%q is %q, %v; want %q", line, got, err, want)
		}
		if err != nil && (fault.KindOf(err) != fault.Invalid || fault.Hint(err) == "") {
			t.Errorf("%q: %v has no hint or kind", line, err)
		}
	}
}

func FuzzCommand(f *testing.F) {
	for _, seed := range []string{
		`git-receive-pack '/acme/porch.git'`, `git upload-pack "a/b"`, `git-upload-pack 'it'\''s/x'`, `git-upload-pack \`, "git-upload-pack '\x00'",
		`git-upload-pack '../../..'`, `git-upload-pack ` + strings.Repeat("'", 99),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		service, slug, err := parseCommand(line)
		if err != nil {
			return
		}
		if service != receivePack && service != uploadPack {
			t.Errorf("%q runs %q", line, service)
		}
		org, fleet, _ := strings.Cut(slug, "/")
		for _, part := range []string{org, fleet} {
			if part == "" || part[0] == '.' || strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789._-") != "" {
				t.Errorf("%q names %q", line, slug)
			}
		}
	})
}

func TestASubmoduleIsFetchedFromThisServerOrOverHTTPS(t *testing.T) {
	here := origin{slug: "acme/porch"}
	there := origin{url: &url.URL{Scheme: "https", Host: "example.org", Path: "/a/b.git"}}
	for _, c := range []struct {
		from origin
		url  string
		want string // slug or URL; a sentence when it is refused
	}{
		{here, "../garden.git", "acme/garden"},
		{here, "../../bobs/cellar", "bobs/cellar"},
		{here, "./../garden.git", "acme/garden"},
		{here, "./", "acme/porch"},
		{here, "../../../etc/passwd", "the relative url names no fleet of this server"},
		{here, "../../../../etc", "the relative url names no fleet of this server"},
		{here, "../x/../../y", "the relative url names no fleet of this server"},
		{here, "..", "its url is none that this server can fetch"},
		{there, "../c.git", "https://example.org/a/c.git"},
		{there, "../../c/d", "https://example.org/c/d"},
		{there, "../../../../c", "the relative url leads out of example.org"},
		{there, "../x/../../../y", "the relative url leads out of example.org"},
		{here, "https://Example.org/A/b.git", "https://example.org/A/b.git"},
		{here, "https://example.org:8443/b", "https://example.org:8443/b"},
		{here, "http://example.org/b", "http://example.org/b"}, // what may be plain is decided by its host
		{here, "ssh://git@example.org/a/b.git", "the server has no ssh key to fetch it with"},
		{here, "git@example.org:a/b.git", "the server has no ssh key to fetch it with"},
		{here, "git://example.org/a/b.git", "its url is none that this server can fetch"},
		{here, "file:///etc", "its url is none that this server can fetch"},
		{here, "/etc", "its url is none that this server can fetch"},
		{here, "ext::sh -c touch% /tmp/x", "its url is none that this server can fetch"},
		{here, "ext::https://example.org/x", "its url is none that this server can fetch"},
		{here, "--upload-pack=evil", "its url is none that this server can fetch"},
		{here, "https:///b", "its url is none that this server can fetch"},
		{here, "https://me:hunter2@example.org/b", "its url carries a password, which everybody who reads the source can use"},
		{here, "https://example.org/a/b?x=--evil", "its url is none that this server can fetch"},
		{here, "https://-oProxyCommand=evil/a", "its url has no proper host"},
		{here, `https://example.org\@127.0.0.1/b`, "its url is none that this server can fetch"},
		{here, "https://exämple.org/b", "its url has no proper host"},
		{here, "https://[fe80::1%25eth0]/b", "its url has no proper host"},
		{here, "https://example.org/a b", "its url has no proper host"},
	} {
		at, err := c.from.resolve(c.url)
		got := at.slug
		if at.url != nil {
			got = at.url.String()
		}
		if err != nil {
			got = fault.Message(err)
		}
		if got != c.want {
			t.Errorf("%q of %v is %q, want %q", c.url, c.from, got, c.want)
		}
	}
}

func FuzzSubmoduleURL(f *testing.F) {
	for _, seed := range []string{"../x", "./y", "https://h/p", "ssh://h/p", "a@b:c", "ext::x", "https://u@h/", "../../..//x", "https://[::1]:1/x", "HTTPS://%31/", "https://h:x/"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		at, err := origin{slug: "acme/porch"}.resolve(raw)
		if err != nil {
			return
		}
		if at.url == nil {
			if slug, ok := parseSlug(at.slug); !ok || slug != at.slug {
				t.Errorf("%q is the fleet %q", raw, at.slug)
			}
			return
		}
		if s := at.url.Scheme; s != "https" && s != "http" || at.url.User != nil || !hostName(at.url.Hostname()) || strings.HasPrefix(at.url.String(), "-") {
			t.Errorf("%q is fetched from %q", raw, at.url)
		}
		again, err := url.Parse(at.url.String())
		if err != nil || again.Host != at.url.Host {
			t.Errorf("%q means %q to git: %v", at.url, again, err)
		}
		if next, err := at.resolve("../z"); err == nil && next.url.Host != at.url.Host {
			t.Errorf("../z of %q is %q", at.url, next.url)
		}
	})
}

func TestOnlyPublicAddressesAreFetchedFrom(t *testing.T) {
	for text, want := range map[string]bool{
		"1.1.1.1": true, "140.82.121.4": true, "2606:4700::1111": true,
		"127.0.0.1": false, "127.9.9.9": false, "0.0.0.0": false, "10.1.2.3": false, "172.16.0.1": false, "192.168.1.1": false,
		"169.254.169.254": false, "100.64.0.1": false, "224.0.0.1": false, "255.255.255.255": false, "198.18.0.1": false,
		"::1": false, "::": false, "fe80::1": false, "fd00::1": false, "ff02::1": false, "::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false,
		"64:ff9b::7f00:1": false, "2002:7f00:1::": false, "2001:db8::1": false,
	} {
		if got := public(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s is public: %v, want %v", text, got, want)
		}
	}
}

func TestModulesAreReadByPath(t *testing.T) {
	list := "submodule.a.b.path\nlib/x/\x00submodule.a.b.url\n../x.git\x00submodule.half.path\ny\x00core.x\x00submodule.\nz\x00submodule\x00"
	if diff := cmp.Diff(map[string]string{"lib/x": "../x.git"}, parseModules([]byte(list))); diff != "" {
		t.Errorf("modules (-want +got):\n%s", diff)
	}
}

func FuzzModules(f *testing.F) {
	f.Add([]byte("submodule.a.path\nx\x00submodule.a.url\ny\x00"))
	f.Add([]byte("submodule..url\x00\n\x00submodule."))
	f.Fuzz(func(t *testing.T, list []byte) {
		for path, url := range parseModules(list) {
			if path == "" && url == "" {
				t.Error("a module with neither path nor url")
			}
		}
	})
}

func FuzzArchivePaths(f *testing.F) {
	f.Add("a\na/b\nc")
	f.Add("a\nlink\nlink/x\nb/c")
	f.Add("..\na/../b\n/etc\na//b\n.git/config\nA\x00")
	f.Fuzz(func(t *testing.T, list string) {
		p := &packer{seen: map[string]bool{}, limits: Limits{Files: 100}}
		for i, name := range strings.Split(list, "\n") {
			if p.place(name, i%2 == 0) != nil {
				continue
			}
			if name == "" || path.IsAbs(name) || path.Clean("/"+name) != "/"+name || strings.HasPrefix(name, "..") && len(strings.Split(name, "/")[0]) == 2 {
				t.Errorf("%q was placed", name)
			}
			if parent := path.Dir(name); parent != "." && !p.seen[parent] {
				t.Errorf("%q was placed below what is no folder", name)
			}
		}
	})
}

func TestAHookCallsOnceAndInOrder(t *testing.T) {
	h := &hookServer{x: &session{server: &Server{}}, secret: "s"}
	for _, hook := range []string{postReceive, "update", ""} {
		if code := h.decide(context.Background(), call{Hook: hook}, io.Discard); code == 0 {
			t.Errorf("%q was answered first", hook)
		}
	}
	if code := h.decide(context.Background(), call{Hook: preReceive}, io.Discard); code != 0 {
		t.Error("a push of nothing was refused")
	}
	if code := h.decide(context.Background(), call{Hook: preReceive}, io.Discard); code == 0 {
		t.Error("a second pre-receive was answered")
	}
	if code := h.decide(context.Background(), call{Hook: postReceive}, io.Discard); code != 0 {
		t.Error("post-receive was refused")
	}
	if code := h.decide(context.Background(), call{Hook: postReceive}, io.Discard); code == 0 {
		t.Error("a second post-receive was answered")
	}
}

func TestABuildIsNotIdleness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		expired := make(chan time.Duration, 1)
		i := newIdleness(time.Minute, func() { expired <- time.Since(start) })
		release := i.hold()
		time.Sleep(time.Hour)
		release()
		time.Sleep(59 * time.Second)
		_, _ = (&watched{w: io.Discard, idle: i}).Write([]byte("x"))
		if after := <-expired; after != time.Hour+59*time.Second+time.Minute {
			t.Errorf("it expired after %v", after)
		}
	})
}

func FuzzUpdates(f *testing.F) {
	zero, one := strings.Repeat("0", 40), strings.Repeat("1", 40)
	f.Add(zero, one, "refs/heads/main", zero, one, "refs/heads/master", "nocache")
	f.Add(one, zero, "refs/heads/main", zero, one, "refs/tags/x", "draft=1")
	f.Add("", "x", "main", "--x", one, "refs/../x", "\x1b[31m")
	f.Fuzz(func(t *testing.T, oldA, newA, refA, oldB, newB, refB, option string) {
		updates := []update{{oldA, newA, refA}, {oldB, newB, refB}}
		deploy, chosen, err := sortOut(updates, []string{option})
		if err != nil {
			if m := fault.Message(err) + fault.Hint(err); strings.ContainsFunc(m, func(r rune) bool { return r < ' ' }) {
				t.Errorf("control characters reach a terminal: %q", m)
			}
			return
		}
		if _, ok := known[option]; !ok && option != "" && len(chosen) == 0 {
			t.Errorf("option %q went unnoticed", option)
		}
		for _, u := range updates {
			if u.deploys() && (u.deleted() || deploy == nil || *deploy != u) {
				t.Errorf("%v deploys, but %v was found", u, deploy)
			}
		}
	})
}

func TestWhatATerminalShowsIsOneCleanLine(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "  a\x1b[31mb\nc  ": "a [31mb c", "\xff": "�", "a\u202eb": "a b", strings.Repeat("é", 300): strings.Repeat("é", 199) + "…", "": "",
	} {
		if got := clean(in, 200); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}
