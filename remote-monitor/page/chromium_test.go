package page

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// chromium is a real browser, spoken to in its DevTools protocol over a pipe: JSON with a zero byte after each message.
type chromium struct {
	in  *os.File
	mu  sync.Mutex
	n   int
	ask map[int]chan answer
	saw func(session, method string, params json.RawMessage)
}

type answer struct {
	Result json.RawMessage
	Error  *struct{ Message string }
}

// patience is a net under the tests: no test waits for it unless something is broken.
const patience = 30 * time.Second

func startChromium(t *testing.T) *chromium {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		if os.Getenv("DUNLIN_TEST_REQUIRE") == "1" {
			t.Fatal("chromium is not installed, and DUNLIN_TEST_REQUIRE asks for it")
		}
		t.Skip("chromium is not installed")
	}
	toBrowser, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, fromBrowser, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	cmd := exec.Command(path, "--headless=new", "--remote-debugging-pipe", "--user-data-dir="+filepath.Join(home, "profile"),
		"--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--disable-extensions", "--no-first-run", "--no-default-browser-check", "--no-proxy-server", "--force-color-profile=srgb", "--hide-scrollbars", "about:blank")
	cmd.Env = append(os.Environ(), "HOME="+home, "TZ=UTC", "LANG=C.UTF-8")
	cmd.ExtraFiles = []*os.File{toBrowser, fromBrowser} // 3 and 4, where it looks for them
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	toBrowser.Close()
	fromBrowser.Close()

	c := &chromium{in: in, ask: map[int]chan answer{}, saw: func(string, string, json.RawMessage) {}}
	listening := make(chan struct{})
	go func() {
		defer close(listening)
		c.listen(out)
	}()
	t.Cleanup(func() {
		in.Close() // its end
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		select {
		case <-done:
		case <-time.After(patience):
			cmd.Process.Kill()
			<-done
		}
		out.Close()
		<-listening
		if t.Failed() {
			for line := range strings.Lines(said.String()) {
				if !strings.Contains(line, "dbus") { // a container has none, and nobody misses it
					t.Logf("chromium said: %s", strings.TrimSpace(line))
				}
			}
		}
	})
	return c
}

func (c *chromium) listen(out *os.File) {
	r := bufio.NewReader(out)
	for {
		m, err := r.ReadBytes(0)
		if err != nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			for _, ch := range c.ask {
				close(ch)
			}
			c.ask = nil
			return
		}
		var in struct {
			ID        int
			SessionID string
			Method    string
			Params    json.RawMessage
			answer
		}
		if json.Unmarshal(m[:len(m)-1], &in) != nil {
			continue
		}
		c.mu.Lock()
		if ch := c.ask[in.ID]; ch != nil {
			ch <- in.answer
			delete(c.ask, in.ID)
		}
		saw := c.saw
		c.mu.Unlock()
		if in.Method != "" {
			saw(in.SessionID, in.Method, in.Params)
		}
	}
}

func (c *chromium) call(session, method string, params, result any) error {
	if params == nil {
		params = struct{}{}
	}
	ch := make(chan answer, 1)
	c.mu.Lock()
	if c.ask == nil {
		c.mu.Unlock()
		return fmt.Errorf("%s: the browser is gone", method)
	}
	c.n++
	m, err := json.Marshal(map[string]any{"id": c.n, "sessionId": session, "method": method, "params": params})
	if session == "" {
		m, err = json.Marshal(map[string]any{"id": c.n, "method": method, "params": params})
	}
	if err == nil {
		c.ask[c.n] = ch
		_, err = c.in.Write(append(m, 0))
	}
	c.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	select {
	case a, ok := <-ch:
		switch {
		case !ok:
			return fmt.Errorf("%s: the browser is gone", method)
		case a.Error != nil:
			return fmt.Errorf("%s: %s", method, a.Error.Message)
		case result != nil:
			return json.Unmarshal(a.Result, result)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: no answer within %s", method, patience)
	}
}

// tab is one page of the browser, alone with its cookies.
type tab struct {
	t       *testing.T
	c       *chromium
	session string
	width   int
	dark    bool

	mu      sync.Mutex
	trouble []string // what a developer would see in red
}

// open opens an address in a new window of the given size.
func (c *chromium) open(t *testing.T, url string, width, height int, dark bool) *tab {
	t.Helper()
	b := &tab{t: t, c: c}
	var private struct{ BrowserContextID string }
	b.must(c.call("", "Target.createBrowserContext", nil, &private))
	var target struct{ TargetID string }
	b.must(c.call("", "Target.createTarget", map[string]any{"url": "about:blank", "browserContextId": private.BrowserContextID}, &target))
	var attached struct{ SessionID string }
	b.must(c.call("", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached))
	b.session = attached.SessionID
	c.mu.Lock()
	before := c.saw
	c.saw = func(session, method string, params json.RawMessage) {
		before(session, method, params)
		if session == b.session {
			b.listen(method, params)
		}
	}
	c.mu.Unlock()
	for _, domain := range []string{"Page", "Runtime", "Log", "Accessibility"} {
		b.do(domain+".enable", nil, nil)
	}
	b.size(width, height, dark)
	b.do("Page.navigate", map[string]any{"url": url}, nil)
	b.until("document.readyState === 'complete' && document.querySelector('.zone')")
	t.Cleanup(func() { c.call("", "Target.closeTarget", map[string]any{"targetId": target.TargetID}, nil) })
	return b
}

func (b *tab) listen(method string, params json.RawMessage) {
	var p struct {
		Type             string
		Entry            struct{ Level, Text, URL string }
		ExceptionDetails struct{ Text string }
	}
	json.Unmarshal(params, &p)
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case method == "Runtime.exceptionThrown", method == "Runtime.consoleAPICalled" && (p.Type == "error" || p.Type == "warning"):
		b.trouble = append(b.trouble, string(params))
	case method == "Log.entryAdded" && (p.Entry.Level == "error" || p.Entry.Level == "warning"):
		b.trouble = append(b.trouble, p.Entry.Text+" "+p.Entry.URL)
	}
}

// complaints is what the console has said since the last call.
func (b *tab) complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.trouble
	b.trouble = nil
	return all
}

func (b *tab) size(width, height int, dark bool) {
	b.t.Helper()
	b.width, b.dark = width, dark
	scale, scheme := 1, "light"
	if width < 600 {
		scale = 2
	}
	if dark {
		scheme = "dark"
	}
	b.do("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600}, nil)
	b.do("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{
		{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"},
	}}, nil)
}

func (b *tab) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *tab) do(method string, params, result any) {
	b.t.Helper()
	b.must(b.c.call(b.session, method, params, result))
}

// eval runs an expression; a promise is waited for.
func (b *tab) eval(expression string, v any) {
	b.t.Helper()
	var out struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	b.do("Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true}, &out)
	if out.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s %s", expression, out.ExceptionDetails.Text, out.ExceptionDetails.Exception.Description)
	}
	if v != nil {
		if err := json.Unmarshal(out.Result.Value, v); err != nil {
			b.t.Fatalf("%s gave %s: %v", expression, out.Result.Value, err)
		}
	}
}

// until waits until an expression is true; it looks each time the page could have changed.
func (b *tab) until(condition string) {
	b.t.Helper()
	var ok bool
	b.eval(fmt.Sprintf(`new Promise((done) => {
		const end = Date.now() + %d;
		const so = () => { try { return %s; } catch { return false; } };
		const look = () => { if (so()) done(true); else if (Date.now() > end) done(false); else setTimeout(look, 20); };
		look();
	})`, patience.Milliseconds()/2, condition), &ok)
	if !ok {
		var body string
		b.eval("document.body.innerText", &body)
		b.t.Fatalf("it never came that %s; the page says:\n%s\nconsole: %q", condition, body, b.complaints())
	}
}

func (b *tab) text(selector string) string {
	b.t.Helper()
	var s string
	b.eval(fmt.Sprintf("[...document.querySelectorAll(%q)].map((e) => e.innerText).join('\\n')", selector), &s)
	return s
}

// click presses the mouse where the element is, as a hand would: what covers it is hit instead.
func (b *tab) click(selector string) {
	b.t.Helper()
	var at struct{ X, Y float64 }
	b.eval(fmt.Sprintf(`(() => { const e = document.querySelector(%q); e.scrollIntoView({ block: "center" }); const r = e.getBoundingClientRect(); return { x: r.x + r.width / 2, y: r.y + r.height / 2 }; })()`, selector), &at)
	for _, kind := range []string{"mousePressed", "mouseReleased"} {
		b.do("Input.dispatchMouseEvent", map[string]any{"type": kind, "x": at.X, "y": at.Y, "button": "left", "clickCount": 1}, nil)
	}
}

// key presses one key; write types text.
func (b *tab) key(name string, code int, text string) {
	b.t.Helper()
	for _, kind := range []string{"keyDown", "keyUp"} {
		b.do("Input.dispatchKeyEvent", map[string]any{"type": kind, "key": name, "code": name, "windowsVirtualKeyCode": code, "text": text}, nil)
	}
}

func (b *tab) write(text string) {
	b.t.Helper()
	b.do("Input.insertText", map[string]any{"text": text}, nil)
}

// picture takes a screenshot of the whole page and keeps it where DUNLIN_SCREENSHOTS says.
func (b *tab) picture(name string) []byte {
	b.t.Helper()
	// What is out of sight is not drawn, so all of it comes into sight.
	var height int
	b.eval("document.documentElement.scrollHeight", &height)
	b.size(b.width, height, b.dark)
	b.until("[...document.querySelectorAll('canvas')].every((c) => c.width === Math.round(c.clientWidth * devicePixelRatio))")
	var out struct{ Data string }
	b.do("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &out)
	png, err := base64.StdEncoding.DecodeString(out.Data)
	b.must(err)
	dir := os.Getenv("DUNLIN_SCREENSHOTS")
	if dir == "" {
		dir = b.t.ArtifactDir()
	}
	b.must(os.MkdirAll(dir, 0o777))
	b.must(os.WriteFile(filepath.Join(dir, name+".png"), png, 0o666))
	return png
}

// roles lists what a screen reader is told: role and name of each thing that has both.
func (b *tab) roles() string {
	b.t.Helper()
	var tree struct {
		Nodes []struct {
			Ignored    bool
			Role, Name struct{ Value any }
		}
	}
	b.do("Accessibility.getFullAXTree", nil, &tree)
	var all strings.Builder
	for _, n := range tree.Nodes {
		if !n.Ignored && n.Name.Value != nil && n.Name.Value != "" {
			fmt.Fprintf(&all, "%v: %v\n", n.Role.Value, n.Name.Value)
		}
	}
	return all.String()
}
