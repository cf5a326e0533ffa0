package cli

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/dunlin/dunlin/client"
	"github.com/dunlin/dunlin/internal/fault"
)

// everyCommand calls f for each command that people can run.
func everyCommand(f func(*cobra.Command)) {
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		f(c)
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(New("test"))
}

func TestEveryCommandSaysWhatItDoesAndShowsHow(t *testing.T) {
	leaves := 0
	everyCommand(func(c *cobra.Command) {
		switch {
		case c.Short == "" || strings.HasSuffix(c.Short, ".") || strings.Contains(c.Short, "\n"):
			t.Errorf("%s: its one line is %q", c.CommandPath(), c.Short)
		case c.IsAdditionalHelpTopicCommand() && c.Long == "":
			t.Errorf("help topic %s is empty", c.Name())
		case c.Runnable() && !c.HasSubCommands():
			if leaves++; !strings.Contains(c.Example, c.CommandPath()) {
				t.Errorf("%s has no example of itself: %q", c.CommandPath(), c.Example)
			}
		}
	})
	if leaves < 35 {
		t.Errorf("found %d commands only", leaves)
	}
}

func TestTheUsageLineSaysHowManyWordsACommandTakes(t *testing.T) {
	for _, row := range []struct {
		use, want string
		args      []string
	}{
		{"list", "", nil},
		{"list", `"x" is one word too many`, []string{"x"}},
		{"show FLEET", "FLEET is missing", nil},
		{"show FLEET", "FLEET is empty", []string{" "}},
		{"show FLEET", "", []string{"a"}},
		{"pin FLEET RELEASE", "RELEASE is missing", []string{"a"}},
		{"pin FLEET RELEASE", `"c" is one word too many`, []string{"a", "b", "c"}},
		{"create NAME --type SLUG", "", []string{"a"}},
		{"note DEVICE TEXT", "", []string{"a", ""}},
		{"add [FILE]", "", nil},
		{"add [FILE]", "", []string{"a"}},
		{"add [FILE]", `"b" is one word too many`, []string{"a", "b"}},
		{"set NAME=VALUE...", "NAME=VALUE is missing", nil},
		{"set NAME=VALUE...", "", []string{"a", "b", "c"}},
	} {
		err := words(&cobra.Command{Use: row.use}, row.args)
		if got := fault.Message(err); err == nil && row.want != "" || err != nil && got != row.want {
			t.Errorf("%s with %q: %v, want %q", row.use, row.args, err, row.want)
		}
	}
}

func TestTimesAreToldRelativeToNow(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		0: "just now", 4 * time.Second: "just now", -2 * time.Second: "just now", 12 * time.Second: "12 s ago",
		time.Minute: "1 min ago", 3*time.Minute + 59*time.Second: "3 min ago", 2 * time.Hour: "2 h ago", 25 * time.Hour: "1 day ago",
		5 * 24 * time.Hour: "5 days ago", 100 * 24 * time.Hour: now.Add(-100 * 24 * time.Hour).Local().Format("2006-01-02"), -24 * time.Hour: "in 1 day",
	} {
		if got := ago(now, now.Add(-d)); got != want {
			t.Errorf("%v ago is %q, want %q", d, got, want)
		}
	}
	if got := ago(now, time.Time{}); got != "never" {
		t.Errorf("no time is %q", got)
	}
	for d, want := range map[time.Duration]string{0: "0s", 40 * time.Second: "40s", 5 * time.Minute: "5m", 3*time.Hour + 59*time.Minute: "3h", 50 * time.Hour: "2d"} {
		if got := short(d); got != want {
			t.Errorf("%v is %q in short, want %q", d, got, want)
		}
	}
}

func TestAMomentIsReadAsALengthOfTimeOrADate(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.Local)
	for s, want := range map[string]time.Time{
		"2h": now.Add(-2 * time.Hour), "1h30m": now.Add(-90 * time.Minute), "7d": now.AddDate(0, 0, -7),
		"2026-01-31": time.Date(2026, 1, 31, 0, 0, 0, 0, time.Local), "2026-01-31 18:00": time.Date(2026, 1, 31, 18, 0, 0, 0, time.Local),
		"2026-01-31T18:00:05Z": time.Date(2026, 1, 31, 18, 0, 5, 0, time.UTC),
	} {
		if got, err := parseSince(now, s); err != nil || !got.Equal(want) {
			t.Errorf("%q is %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "yesterday", "-2h", "2", "d", "-1d", "99999999d", "2026-13-01"} {
		if got, err := parseSince(now, s); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q is %v, %v", s, got, err)
		}
	}
}

func TestColumnsAreAsWideAsTheirLettersAreMany(t *testing.T) {
	var b strings.Builder
	tab := table{header: []string{"NAME", "NOTE"}}
	tab.add("größe", "")
	tab.add("a\nb", "\x1b]0;pwned\x07x\x1b[31my")
	if err := tab.print(&b); err != nil {
		t.Fatal(err)
	}
	want := "NAME   NOTE\ngröße  -\na\\nb   ]0;pwnedxy\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestOnlyColoursReachATerminal(t *testing.T) {
	const s = "a\x1b[31mred\x1b[0m\x1b[2J\x1b[1;1Hb\x1b]8;;x\x07\rc\u202ed\u009b1mé\xff"
	if got, want := plain(s, true), "a\x1b[31mred\x1b[0mb]8;;xcd1mé\uFFFD"; got != want {
		t.Errorf("with colours: %q", got)
	}
	if got, want := plain(s, false), "aredb]8;;xcd1mé\uFFFD"; got != want {
		t.Errorf("without colours: %q", got)
	}
}

func FuzzPlain(f *testing.F) {
	for _, s := range []string{"", "plain", "\x1b", "\x1b[", "\x1b[31m", "\x1b[31", "\x1b[31\x00m", "\u009b31m", "\x1b\x1b[[m", "é\xff\x1b[m", "\u202e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := plain(s, false)
		if !utf8.ValidString(got) {
			t.Errorf("%q became %q, which is not UTF-8", s, got)
		}
		if strings.ContainsFunc(got, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) {
			t.Errorf("%q became %q", s, got)
		}
		coloured := plain(s, true)
		for i := 0; i < len(coloured); i++ {
			if coloured[i] == 0x1b {
				if n, colour := escape(coloured[i:]); !colour || n < 3 {
					t.Errorf("%q became %q with colours", s, coloured)
				}
			}
		}
		if again := plain(got, false); again != got {
			t.Errorf("%q became %q and then %q", s, got, again)
		}
	})
}

func TestTheAddressOfAServerIsCompleted(t *testing.T) {
	for typed, want := range map[string]string{
		"dunlin.example.com": "https://dunlin.example.com", "https://Dunlin.example.com/": "https://dunlin.example.com",
		"localhost:8080": "http://localhost:8080", "127.0.0.1": "http://127.0.0.1", "[::1]:80": "http://[::1]:80", "192.168.1.10:8443": "https://192.168.1.10:8443",
		"http://192.168.1.10": "http://192.168.1.10",
	} {
		if got, err := serverURL(typed); err != nil || got != want {
			t.Errorf("%q became %q, %v", typed, got, err)
		}
	}
	for _, typed := range []string{"", "ftp://x", "https://", "https://u:p@x", "https://x/path", "https://x?q", "two words", "ssh://git@x:22"} {
		if got, err := serverURL(typed); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q became %q, %v", typed, got, err)
		}
	}
}

func TestASavedTokenGoesOnlyToItsServer(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("DUNLIN_TOKEN", "")
	t.Setenv("DUNLIN_URL", "")
	t.Setenv("DUNLIN_CA", "")
	if err := saveConfig(config{URL: "https://one", Token: "secret", CA: "pem", Username: "admin"}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(os.Getenv("XDG_CONFIG_HOME"), "dunlin", "config.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode is %v, %v", info.Mode(), err)
	}
	if c, saved, err := effective(); err != nil || !saved || c.Token != "secret" {
		t.Errorf("got %+v, %v, %v", c, saved, err)
	}
	t.Setenv("DUNLIN_URL", "https://one/")
	if c, _, err := effective(); err != nil || c.Token != "secret" {
		t.Errorf("the same server: got %+v, %v", c, err)
	}
	t.Setenv("DUNLIN_URL", "https://two")
	if c, _, err := effective(); err != nil || c != (config{URL: "https://two"}) {
		t.Errorf("another server: got %+v, %v", c, err)
	}
	t.Setenv("DUNLIN_TOKEN", "other")
	if c, saved, err := effective(); err != nil || saved || c.Token != "other" {
		t.Errorf("a token of the environment: got %+v, %v, %v", c, saved, err)
	}
}

func TestOnlyAnOldSessionIsRefreshed(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	a := &app{now: func() time.Time { return now }}
	for token, want := range map[string]bool{
		"x.eyJpYXQiOjE3OTk5MDAwMDB9.y": true,  // iat 100,000 s ago
		"x.eyJpYXQiOjE3OTk5OTAwMDB9.y": false, // 10,000 s ago
		"x.e30.y":                      false,
		"x.!.y":                        false,
		"0123456789abcdef":             false,
	} {
		if got := a.stale(token); got != want {
			t.Errorf("%s: %v", token, got)
		}
	}
}

func TestALogLineIsMarkedByMoreThanColour(t *testing.T) {
	at := time.Date(2026, 11, 22, 11, 40, 41, 0, time.Local)
	p := &logPrinter{names: map[int64]string{3: "main"}, serviceWidth: 5, deviceWidth: 6, prefix: true}
	l := func(message string, service int64, stderr bool) logLine {
		return logLine{client.Device{Row: client.Row{ID: 8}, Name: "porch"}, client.Line{
			Message: message, Timestamp: at.UnixMilli(), ServiceID: service, IsStdErr: stderr, IsSystem: service == 0,
		}}
	}
	for _, row := range []struct {
		line logLine
		want string
	}{
		{l("hello\r\n", 3, false), "2026-11-22 11:40:41  porch   main  | hello\n"},
		{l("oh\nno", 3, true), "2026-11-22 11:40:41  porch   main  ! oh\n2026-11-22 11:40:41  porch   main  ! no\n"},
		{l("Started service", 0, false), "2026-11-22 11:40:41  porch   agent * Started service\n"},
		{l("\x1b[31mred\x1b[2J", 9, false), "2026-11-22 11:40:41  porch   service 9 | red\n"},
	} {
		if diff := cmp.Diff(row.want, p.format(row.line)); diff != "" {
			t.Error(diff)
		}
	}
	p.colours = true
	if got := p.format(l("\x1b[32mgreen", 3, true)); !strings.Contains(got, red+"\x1b[32mgreen"+reset) || !strings.Contains(got, "\x1b[31m!") {
		t.Errorf("in colour: %q", got)
	}
}

func TestGitIsFoundWhereTheServerSaysOrAtItsHost(t *testing.T) {
	for _, row := range []struct {
		said, want string
		port       int
	}{
		{"ssh://git@dunlin.example.com:2222", "ssh://git@dunlin.example.com:2222/home/porch.git", 0},
		{"ssh://git@dunlin.example.com:2222/", "ssh://git@dunlin.example.com:22/home/porch.git", 22},
		{"ssh://dunlin.example.com", "ssh://git@dunlin.example.com/home/porch.git", 0},
		{"", "ssh://git@[::1]:2222/home/porch.git", 0},
	} {
		if got, err := gitURL("http://[::1]:8080", client.Info{GitServerURL: row.said}, row.port, "home/porch"); err != nil || got != row.want {
			t.Errorf("%q: %q, %v", row.said, got, err)
		}
	}
	if got, err := gitURL("http://x", client.Info{GitServerURL: "git.example.com"}, 0, "home/porch"); err == nil {
		t.Errorf("an address without a scheme became %q", got)
	}
}

func TestTheWordForAReleaseSaysWhatIsMeant(t *testing.T) {
	for word, want := range map[string]string{
		"#12": "id eq 12", "4f2a": "startswith(commit,'4f2a')", "4F2A91C": "startswith(commit,'4f2a91c')",
		"0123456789abcdef0123456789abcdef01234567": "startswith(commit,'0123456789abcdef0123456789abcdef')",
		"v1.2.3":       "semver_major eq 1 and semver_minor eq 2 and semver_patch eq 3",
		"1.2.3+rev1":   "semver_major eq 1 and semver_minor eq 2 and semver_patch eq 3",
		"0.0.1-beta.1": "semver_major eq 0 and semver_minor eq 0 and semver_patch eq 1",
	} {
		if got, _, err := releaseFilter(word); err != nil || got != want {
			t.Errorf("%q: %q, %v", word, got, err)
		}
	}
	for word, want := range map[string][]string{
		"1.2.3": {"1.2.3", "1.2.3+rev1"}, "v1.2.3": {"1.2.3", "1.2.3+rev1"}, "1.2.3+rev1": {"1.2.3+rev1"}, "1.2.3-beta": {"1.2.3-beta"},
	} {
		_, match, err := releaseFilter(word)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range []client.Release{{Version: "1.2.3", Semver: "1.2.3"}, {Version: "1.2.3+rev1", Semver: "1.2.3"}, {Version: "1.2.3-beta", Semver: "1.2.3-beta"}} {
			if match(r) {
				got = append(got, r.Version)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", word, diff)
		}
	}
	for _, word := range []string{"", "4f2", "#", "#x", "latest", "1.2", "a' or 1 eq 1"} {
		if got, _, err := releaseFilter(word); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %q, %v", word, got, err)
		}
	}
}

func TestARefusalIsNotMistakenForTheEndOfASession(t *testing.T) {
	for _, row := range []struct {
		name string
		who  int // status of whoami
		want fault.Kind
	}{
		{"the token is good", 200, fault.Denied},
		{"the token is not", 401, fault.Unauthenticated},
		{"nobody knows", 500, fault.Internal},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(row.who)
			_, _ = w.Write([]byte("{}"))
		}))
		err := (&session{Client: &client.Client{URL: s.URL}}).explain(t.Context(), &client.Error{Status: 401, Message: "Unauthorized"})
		if got := fault.KindOf(err); got != row.want || err == nil {
			t.Errorf("%s: %v", row.name, err)
		}
		s.Close()
	}
}
