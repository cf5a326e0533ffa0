package page

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/bus"
	"github.com/dunlin/dunlin/remote-monitor/monitor"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// One browser serves all: it takes longer to start than the tests to run.
func TestInChromium(t *testing.T) {
	c := startChromium(t)
	for _, x := range []struct {
		name string
		test func(*testing.T, *chromium)
	}{
		{"the page shows everything, light and dark, wide and on a phone", showsEverything},
		{"a button asks for the token, and then reaches the monitor", buttons},
		{"without a token there are no buttons, and it says why", noButtons},
		{"the page follows the monitor, and says when it cannot", follows},
		{"everything can be done with the keyboard", keyboard},
		{"names are shown as they are, however odd", oddNames},
		{"bands are what the thresholds say", bands},
	} {
		t.Run(x.name, func(t *testing.T) { x.test(t, c) })
	}
}

func showsEverything(t *testing.T, c *chromium) {
	h := newHouse(time.Now())
	url := open(t, h.page())
	b := c.open(t, url, 1280, 900, false)
	b.until("document.querySelectorAll('.zone').length === 6 && document.querySelector('#events li time')")

	said := strings.Join(strings.Fields(b.text("body")), " ")
	for _, want := range []string{
		"Gate house", "ADC Pi and IO Pi · version 1.0.0", "Up 26 h", "Scan 21 ms", "Supply 4.97 V",
		"1 alarm", "1 pre-alarm", "1 tamper", "1 fault", "2 normal", "healthy",
		"Hall motion", "Motion Detector · Ground floor · adc1:1", "51.3 %", "2.55 V", "house: alarm", "1 alarm in 24 h", "2 pulses in 30 s, seconded by Front door",
		"Turned down, 37 in 24 h", "in quarantine: lone alarms of this zone were false before", "no second zone: no second zone within 120 s",
		"several inputs at once: 4 inputs stepped together", "Quarantine until", "Swinger: left out", "Warming up", "Silent for days", "garden: disarmed",
		"the loop is open: cut wire or opened lid", "unknown", "cannot be read: nobody answers at 0x69", "Nothing was turned down lately.",
		"Siren", "s left, by rule", "the pin shows on and was told off, twice", "Exit delay", "by schedule",
		"MQTT", "Connected", "AMQP", "12 waiting", "connection refused", "Hello from Remote Monitor", "Replayed",
	} {
		if !strings.Contains(strings.ToLower(said), strings.ToLower(want)) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if t.Failed() {
		t.Logf("it says: %s", said)
	}
	// Four candidates are known of the porch; the newest three are enough.
	if strings.Contains(said, "gone after the median") {
		t.Error("the page shows more than three candidates of a zone")
	}

	roles := b.roles()
	for _, want := range []string{
		"heading: Gate house", "region: Zones", "region: Outputs", "region: Arming", "region: Events", "article: Hall motion",
		"button: Disarm house", "button: Arm garden", "button: Pulse: Gate", "button: On: Porch light", "spinbutton: Seconds on: Porch light", "checkbox: only what matters",
		"progressbar: Time left of Siren", "image: Signal of Hall motion in the last 60 seconds; now 51.3 %", "image: Signal of Attic in the last 60 seconds; now unknown", "image: Signal of Front door in the last 60 seconds; now quiet",
	} {
		if !strings.Contains(strings.ToLower(roles), strings.ToLower(want)) {
			t.Errorf("a screen reader is not told %q", want)
		}
	}
	if t.Failed() {
		t.Logf("it is told: %s", roles)
	}

	// Each view: nothing sticks out at the side, every signal is drawn, and the colours are those of the scheme.
	for _, view := range []struct {
		name   string
		width  int
		height int
		dark   bool
	}{{"wide-light", 1280, 900, false}, {"wide-dark", 1280, 900, true}, {"phone-light", 390, 844, false}, {"phone-dark", 390, 844, true}} {
		b.size(view.width, view.height, view.dark)
		png := b.picture(view.name)
		if len(png) < 30_000 {
			t.Errorf("%s: the screenshot has %d bytes only", view.name, len(png))
		}
		var got struct {
			Wider int
			Light float64
			Inks  []int
		}
		b.eval(`(() => {
			const paper = getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number);
			return {
				wider: document.documentElement.scrollWidth - innerWidth,
				light: (paper[0] + paper[1] + paper[2]) / 3,
				inks: [...document.querySelectorAll("canvas")].map((c) => {
					const copy = Object.assign(document.createElement("canvas"), { width: c.width, height: c.height }).getContext("2d", { willReadFrequently: true });
					copy.drawImage(c, 0, 0);
					return new Set(new Uint32Array(copy.getImageData(0, 0, c.width, c.height).data.buffer)).size;
				}),
			};
		})()`, &got)
		if got.Wider > 0 {
			t.Errorf("%s: the page is %d pixels wider than the screen", view.name, got.Wider)
		}
		if view.dark != (got.Light < 60) {
			t.Errorf("%s: the paper has brightness %.0f", view.name, got.Light)
		}
		if len(got.Inks) != 6 || slices.Min(got.Inks) < 10 {
			t.Errorf("%s: the signals are drawn in so many colours: %v", view.name, got.Inks)
		}
	}

	// What can be read can be read by everyone: 4.5 to 1, as WCAG 1.4.3 wants it.
	for _, dark := range []bool{false, true} {
		b.size(1280, 900, dark)
		var faint []string
		b.eval(contrast, &faint)
		if len(faint) > 0 {
			t.Errorf("dark %v: too faint: %q", dark, faint)
		}
	}

	// Only what matters: the start, the motion and the commands go, alarms stay.
	b.click("#serious")
	b.until("!document.querySelector('#events').innerText.includes('Hello')")
	if s := b.text("#events"); !strings.Contains(s, "Tamper") || strings.Contains(s, "Motion Hall") {
		t.Errorf("only what matters are: %s", s)
	}
	if all := b.complaints(); len(all) > 0 {
		t.Errorf("the console is red: %q", all)
	}
}

// contrast lists the texts that are too faint for what is behind them.
const contrast = `(() => {
	const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
	const rgb = (colour) => { probe.clearRect(0, 0, 1, 1); probe.fillStyle = colour; probe.fillRect(0, 0, 1, 1); return [...probe.getImageData(0, 0, 1, 1).data]; };
	const light = (c) => c.slice(0, 3).map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
	const behind = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c[3] === 255) return c; } return [255, 255, 255, 255]; };
	const faint = new Set();
	for (const e of document.querySelectorAll("body *")) {
		const own = [...e.childNodes].filter((n) => n.nodeType === 3 && n.data.trim()).map((n) => n.data.trim()).join(" ");
		if (!own || !e.checkVisibility() || e.closest(".sr, noscript, dialog, .skip")) continue;
		const a = light(rgb(getComputedStyle(e).color)), b = light(behind(e));
		const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
		if (ratio < 4.5) faint.add(own.slice(0, 30) + " " + ratio.toFixed(2));
	}
	return [...faint];
})()`

func buttons(t *testing.T, c *chromium) {
	h := newHouse(time.Now())
	b := c.open(t, open(t, h.page()), 390, 844, false)

	b.click(`[aria-label="Pulse: Gate"]`)
	b.until("document.querySelector('dialog').open && document.activeElement.id === 'token'")
	b.picture("phone-login")
	b.write("not the token")
	b.key("Enter", 13, "\r")
	b.until("document.querySelector('#login-error').innerText.includes('not the token')")
	if got := h.pressed(); len(got) > 0 {
		t.Fatalf("with a wrong token the monitor was told %q", got)
	}
	b.eval("document.querySelector('#token').select()", nil)
	b.write(token)
	b.key("Enter", 13, "\r")
	b.until("!document.querySelector('dialog').open && document.querySelector('#answer').innerText.includes('Pulse: Gate: accepted')")
	b.until("document.querySelector('#lock').innerText === 'Lock buttons'")

	b.eval(`document.querySelector('[aria-label="Seconds on: Porch light"]').focus()`, nil)
	b.write("2.5")
	b.click(`[aria-label="On: Porch light"]`)
	b.until("document.querySelector('#answer').innerText.includes('On: Porch light: accepted')")
	b.click(`[aria-label="Disarm house"]`)
	b.until("document.querySelector('#answer').innerText.includes('Disarm house: accepted')")

	h.mu.Lock()
	h.answer = func(c bus.Command) {
		c.Answer(bus.Ack{ID: c.ID, Status: "rejected", Reason: "the supply is low"})
	}
	h.mu.Unlock()
	b.click(`[aria-label="Off: Siren"]`)
	b.until("document.querySelector('#answer.bad').innerText.includes('Off: Siren: rejected – the supply is low')")

	// What refuses to be armed can be armed all the same.
	b.click(`[aria-label="Arm garden"]`)
	b.until("document.querySelector('#answer.bad').innerText.includes('Arm garden: rejected')")
	b.picture("phone-refused")
	h.mu.Lock()
	h.answer = nil
	h.mu.Unlock()
	b.click(`[aria-label="Arm garden anyway"]`)
	b.until("document.querySelector('#answer.good').innerText.includes('Arm garden anyway: accepted')")

	want := []string{"gate pulse 0s", "light on 2.5s", "house disarm 0s", "siren off 0s", "garden arm 0s", "garden arm_force 0s"}
	if got := h.pressed(); !slices.Equal(got, want) {
		t.Errorf("the monitor was told %q, want %q", got, want)
	}
	// Scripts cannot read the session, and it is gone when the buttons are locked.
	var cookies string
	b.eval("document.cookie", &cookies)
	if cookies != "" {
		t.Errorf("a script can read %q", cookies)
	}
	b.click("#lock")
	b.until("document.querySelector('#lock').innerText === 'Unlock buttons'")
	b.click(`[aria-label="Arm garden"]`)
	b.until("document.querySelector('dialog').open")
	if got := h.pressed(); len(got) != len(want) {
		t.Errorf("with the buttons locked the monitor was told %q", got)
	}
	for _, s := range b.complaints() {
		if !strings.Contains(s, "401 (Unauthorized)") && !strings.Contains(s, "409 (Conflict)") {
			t.Errorf("the console is red: %s", s)
		}
	}
}

func noButtons(t *testing.T, c *chromium) {
	p := newHouse(time.Now()).page()
	p.Token = ""
	b := c.open(t, open(t, p), 1280, 900, false)
	b.until("document.querySelectorAll('#outputs li').length === 4")
	var n int
	b.eval("[...document.querySelectorAll('main button, #lock')].filter((e) => e.checkVisibility()).length", &n)
	if n != 0 {
		t.Errorf("there are %d buttons", n)
	}
	if said := b.text("#buttons"); !strings.Contains(said, "no token is configured") {
		t.Errorf("it says %q", said)
	}
}

func follows(t *testing.T, c *chromium) {
	at := time.Now()
	h := newHouse(at)
	serve := func(l net.Listener) *httptest.Server {
		s := httptest.NewUnstartedServer(h.page().Handler())
		s.Listener.Close()
		s.Listener = l
		s.Start()
		return s
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := serve(l)
	b := c.open(t, s.URL, 1280, 900, false)
	b.until("document.querySelector('[aria-labelledby=z-door]').dataset.state === 'normal' && document.title.startsWith('1 alarm')")

	h.change(func(now *monitor.Snapshot) {
		now.Zones[1].State, now.Zones[1].Reason, now.Zones[1].Since = zone.InAlarm, "opened while armed", now.Time
		now.Events = slices.Insert(now.Events, 0, bus.Event{ID: "9", Time: now.Time, Kind: "alarm", Zone: "door", Reason: "opened while armed"})
		now.Outputs[1].On, now.Outputs[1].Wanted, now.Outputs[1].Since = true, true, now.Time
	})
	b.until("document.querySelector('[aria-labelledby=z-door]').dataset.state === 'alarm'")
	b.until("document.querySelector('#events li').innerText.includes('Front door') && document.querySelectorAll('#events li').length === 9")
	b.until("document.querySelector('#outputs li:nth-child(2)').innerText.includes('on for')")
	b.until("document.title.startsWith('2 alarm')")

	// The signal moves: what is new is at the right.
	var before, after string
	b.eval("document.querySelector('canvas').toDataURL()", &before)
	h.goOn(100)
	b.until(fmt.Sprintf("document.querySelector('canvas').toDataURL() !== %q", before))
	b.eval("document.querySelector('canvas').toDataURL()", &after)

	h.change(func(now *monitor.Snapshot) {
		now.Trouble, now.Healthy, now.Unhealthy = "/dev/i2c-1 is gone", false, "the board is away"
	})
	b.until("document.querySelector('#trouble').innerText.includes('/dev/i2c-1 is gone')")
	if roles := b.roles(); !strings.Contains(roles, "The board does not answer: /dev/i2c-1 is gone") {
		t.Errorf("a screen reader is not told of the board")
	}
	h.change(func(now *monitor.Snapshot) { now.Trouble, now.Unhealthy = "", "Attic is not known" })
	b.until("document.querySelector('#trouble').hidden && document.querySelector('#unhealthy').innerText.includes('Attic is not known')")

	s.Listener.Close()
	s.CloseClientConnections()
	s.Close()
	b.until("!document.querySelector('#lost').hidden")
	b.picture("wide-lost")
	// The monitor comes again, as a new program: it has no door any more.
	h.change(func(now *monitor.Snapshot) {
		now.Started, now.Zones = now.Time, slices.Delete(now.Zones, 1, 2)
	})
	l, err = net.Listen("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s = serve(l)
	defer s.Close()
	defer s.CloseClientConnections()
	b.until("document.querySelector('#lost').hidden && document.querySelectorAll('.zone').length === 5")
}

func keyboard(t *testing.T, c *chromium) {
	h := newHouse(time.Now())
	b := c.open(t, open(t, h.page()), 1280, 900, false)
	b.until("document.querySelectorAll('#outputs li').length === 4")
	var seen []string
	for range 30 {
		b.key("Tab", 9, "")
		var at string
		b.eval("(document.activeElement.getAttribute('aria-label') ?? document.activeElement.innerText ?? '') || document.activeElement.id || document.activeElement.tagName", &at)
		seen = append(seen, at)
		if at == "JSON" {
			break
		}
	}
	want := []string{
		"Skip to the zones", "Unlock buttons", "Disarm house", "Arm garden", "Disarm garage", "On: Siren", "Off: Siren", "Seconds on: Siren",
		"On: Porch light", "Off: Porch light", "Seconds on: Porch light", "Pulse: Gate", "Off: Gate", "Seconds on: Gate", "On: Pump", "Off: Pump", "Seconds on: Pump", "serious", "JSON",
	}
	if !slices.Equal(seen, want) {
		t.Errorf("the tab key goes to %q", seen)
	}
	b.eval("document.querySelector('#lock').focus()", nil)
	b.key("Enter", 13, "\r")
	b.until("document.querySelector('dialog').open")
	b.key("Escape", 27, "")
	b.until("!document.querySelector('dialog').open && document.activeElement.id === 'lock'")

	// A button keeps the focus when the page changes around it.
	b.eval(`document.querySelector('[aria-label="Off: Siren"]').focus()`, nil)
	h.change(func(now *monitor.Snapshot) {
		now.Zones[1].State, now.Outputs[0].TotalOn, now.Outputs[1].On = zone.InAlarm, now.Outputs[0].TotalOn+time.Second, true
	})
	b.until("document.querySelector('[aria-labelledby=z-door]').dataset.state === 'alarm'")
	var at string
	b.eval("document.activeElement.getAttribute('aria-label')", &at)
	if at != "Off: Siren" {
		t.Errorf("the focus went to %q", at)
	}
}

func oddNames(t *testing.T, c *chromium) {
	h := newHouse(time.Now())
	evil := `<img src=x onerror="document.title='owned'">`
	h.change(func(now *monitor.Snapshot) {
		now.Device, now.Zones[0].Name, now.Zones[1].Reason, now.Events[0].Reason = evil, evil, evil, evil
		now.Outputs[0].Label, now.Groups[0].By, now.Brokers[0].Trouble, now.Unhealthy = evil, evil, evil, evil
		now.Zones[2].Name = strings.Repeat("Longname", 30)
		for i := range 30 {
			z := now.Zones[i%6]
			z.ID, z.Pin = fmt.Sprintf("z%d", i), board.Pin{Chip: "adc1", Number: i + 1}
			now.Zones = append(now.Zones, z)
		}
		for i := range 190 {
			now.Events = append(now.Events, bus.Event{ID: fmt.Sprint("e", i), Time: now.Time, Kind: "motion", Zone: "z1", Reason: "x"})
		}
	})
	b := c.open(t, open(t, h.page()), 390, 844, false)
	b.until("document.querySelectorAll('.zone').length === 36")
	if got := b.text("h1"); got != evil {
		t.Errorf("the device is called %q", got)
	}
	var got struct {
		Wider, Images, Events int
		Title                 string
	}
	b.eval("({ wider: document.documentElement.scrollWidth - innerWidth, images: document.images.length, title: document.title, events: document.querySelectorAll('#events li').length })", &got)
	if got.Wider > 0 || got.Images != 0 || strings.HasPrefix(got.Title, "owned") || got.Events != 40 {
		t.Errorf("odd names make of the page: %+v", got)
	}
	var cut []string
	b.eval("[...document.querySelectorAll('h1, h3, p, li, dd, button')].filter((e) => e.checkVisibility() && e.scrollWidth > e.clientWidth + 1).map((e) => e.innerText)", &cut)
	if len(cut) > 0 {
		t.Errorf("cut off: %q", cut)
	}
	b.click("#more")
	b.until("document.querySelectorAll('#events li').length === 198")
	if all := b.complaints(); len(all) > 0 {
		t.Errorf("the console is red: %q", all)
	}
}

func bands(t *testing.T, c *chromium) {
	p := newHouse(time.Now()).page()
	b := c.open(t, open(t, p), 1280, 900, false)
	for _, x := range []struct{ name, thresholds, want string }{
		{"usual", `[["short",11],["normal",18],["normal",37],["alarm",43],["alarm",62],["open",68]]`, "short 0-11, normal 18-37, alarm 43-62, open 68-100"},
		{"upside down", `[["open",12],["alarm",20],["alarm",40],["normal",50],["normal",70],["short",80]]`, "open 0-12, alarm 20-40, normal 50-70, short 80-100"},
		{"the original's", `[["normal",19],["normal",39],["open",68],["open",88]]`, "normal 19-39, open 68-88"},
		{"one end alone", `[["normal",15]]`, "normal 15-15"},
		{"none", `[["enter",15],["leave",16]]`, ""},
	} {
		var got string
		b.eval(fmt.Sprintf(`import("./signal.js").then((m) => m.bands(%s.map(([name, percent]) => ({ name, percent }))).map((b) => b.name + " " + b.low + "-" + b.high).join(", "))`, x.thresholds), &got)
		if got != x.want {
			t.Errorf("%s: got %q, want %q", x.name, got, x.want)
		}
	}
	var low, high float64
	var out json.RawMessage
	b.eval(`import("./signal.js").then((m) => m.scale({ signal: "analog", thresholds: [{ percent: 45 }, { percent: 51 }], level: { baseline: 48 } }, [47, null, 52]))`, &out)
	var s struct{ Low, High float64 }
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatal(err)
	}
	if low, high = s.Low, s.High; low > 44.5 || low < 40 || high < 52.5 || high > 60 {
		t.Errorf("a sensor that swings from 45 to 52 is shown from %v to %v", low, high)
	}
	if resp, err := http.Get(open(t, p) + "/signal.js"); err != nil || resp.Header.Get("Content-Type") != "text/javascript; charset=utf-8" {
		t.Errorf("signal.js is no script: %v", err)
	}
}
