package api_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// browserPatience is a net under the tests of the browser: none waits for it unless something is broken.
const browserPatience = 30 * time.Second

// chromium is a real browser with one page, spoken to in its DevTools protocol over a pipe: JSON with a zero byte
// after each message, one call at a time.
type chromium struct {
	t       *testing.T
	in      *os.File
	out     *bufio.Reader
	session string
	n       int
	trouble []string // what a developer would see in red
}

func openChromium(t *testing.T) *chromium {
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
		"--disable-extensions", "--no-first-run", "--no-default-browser-check", "--no-proxy-server", "about:blank")
	cmd.Env = append(os.Environ(), "HOME="+home, "TZ=UTC", "LANG=C.UTF-8")
	cmd.ExtraFiles = []*os.File{toBrowser, fromBrowser} // 3 and 4, where it looks for them
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	toBrowser.Close()
	fromBrowser.Close()
	c := &chromium{t: t, in: in, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		in.Close() // its end
		kill := time.AfterFunc(browserPatience, func() { cmd.Process.Kill() })
		cmd.Wait() // how it ends is its own affair
		kill.Stop()
		out.Close()
	})
	// A browser that hangs is ended, and the call that waits for it fails.
	hang := time.AfterFunc(4*browserPatience, func() { cmd.Process.Kill() })
	t.Cleanup(func() { hang.Stop() })

	var target struct{ TargetID string }
	c.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	c.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	c.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		c.call(domain+".enable", nil, nil)
	}
	return c
}

func (c *chromium) call(method string, params map[string]any, result any) {
	c.t.Helper()
	if params == nil {
		params = map[string]any{}
	}
	c.n++
	message := map[string]any{"id": c.n, "method": method, "params": params}
	if c.session != "" {
		message["sessionId"] = c.session
	}
	text, err := json.Marshal(message)
	if err == nil {
		_, err = c.in.Write(append(text, 0))
	}
	if err != nil {
		c.t.Fatalf("%s: %v", method, err)
	}
	for {
		text, err := c.out.ReadBytes(0)
		if err != nil {
			c.t.Fatalf("%s: the browser is gone: %v", method, err)
		}
		var said struct {
			ID     int
			Method string
			Params struct {
				Type  string
				Entry struct{ Level, Text, URL string }
			}
			Result json.RawMessage
			Error  *struct{ Message string }
		}
		if err := json.Unmarshal(text[:len(text)-1], &said); err != nil {
			c.t.Fatal(err)
		}
		entry := said.Params.Entry
		switch {
		case said.Method == "Runtime.exceptionThrown", said.Method == "Runtime.consoleAPICalled" && said.Params.Type == "error":
			c.trouble = append(c.trouble, string(text))
		case said.Method == "Log.entryAdded" && entry.Level == "error" && !strings.Contains(entry.Text, "401"): // the refusal itself
			c.trouble = append(c.trouble, entry.Text+" "+entry.URL)
		case said.ID == c.n && said.Error != nil && method == "Runtime.evaluate" && strings.Contains(said.Error.Message, "navigated"):
			return // the page went away while it was asked
		case said.ID == c.n && said.Error != nil:
			c.t.Fatalf("%s: %s", method, said.Error.Message)
		case said.ID == c.n:
			if result != nil {
				if err := json.Unmarshal(said.Result, result); err != nil {
					c.t.Fatal(err)
				}
			}
			return
		}
	}
}

func (c *chromium) complaints() []string { return c.trouble }

func (c *chromium) open(url string) {
	c.t.Helper()
	c.call("Page.navigate", map[string]any{"url": url}, nil)
}

// value is an expression's, null while the page is changing.
func (c *chromium) value(expression string) string {
	c.t.Helper()
	var out struct {
		Result struct{ Value json.RawMessage }
	}
	c.call("Runtime.evaluate", map[string]any{"expression": "(() => { try { return " + expression + "; } catch { return null; } })()", "returnByValue": true}, &out)
	return string(out.Result.Value)
}

// until asks again and again until an expression is true; each question is a turn of the page's own loop.
func (c *chromium) until(condition string) {
	c.t.Helper()
	for end := time.Now().Add(browserPatience); time.Now().Before(end); {
		if c.value("!!("+condition+") && document.readyState === 'complete'") == "true" {
			return
		}
	}
	c.t.Fatalf("it never came that %s; the page at %s says:\n%s\nconsole: %q", condition, c.value("location.href"), c.text("body"), c.trouble)
}

func (c *chromium) text(selector string) (text string) {
	c.t.Helper()
	_ = json.Unmarshal([]byte(c.value(fmt.Sprintf("document.querySelector(%q).innerText", selector))), &text) // "" for none
	return text
}

// click presses the mouse where the element is, as a hand would: what covers it is hit instead.
func (c *chromium) click(selector string) {
	c.t.Helper()
	var at struct{ X, Y float64 }
	if err := json.Unmarshal([]byte(c.value(fmt.Sprintf(`(() => { const r = document.querySelector(%q).getBoundingClientRect();
		return { x: r.x + r.width / 2, y: r.y + r.height / 2 }; })()`, selector))), &at); err != nil {
		c.t.Fatal(err)
	}
	for _, kind := range []string{"mousePressed", "mouseReleased"} {
		c.call("Input.dispatchMouseEvent", map[string]any{"type": kind, "x": at.X, "y": at.Y, "button": "left", "clickCount": 1}, nil)
	}
}

func (c *chromium) key(name string, code int) {
	c.t.Helper()
	text := map[string]string{"Enter": "\r"}[name]
	for _, kind := range []string{"keyDown", "keyUp"} {
		c.call("Input.dispatchKeyEvent", map[string]any{"type": kind, "key": name, "code": name, "windowsVirtualKeyCode": code, "text": text}, nil)
	}
}

func (c *chromium) write(text string) {
	c.t.Helper()
	c.call("Input.insertText", map[string]any{"text": text}, nil)
}
