package api

import (
	"encoding/json"
	"mime"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// Whatever a client says of a device's configuration, what it becomes is JSON, and nothing in a file for the device has a
// line that nobody meant.
func FuzzParametersOfAConfiguration(f *testing.F) {
	f.Add(`{"appId":1,"version":"6.0.0"}`, "application/json", "")
	f.Add(`version=6.0.0&ip=1.2.3.4&netmask=255.0.0.0&gateway=1.1.1.1&wifiSsid=a&wifiKey=b`, "application/x-www-form-urlencoded", "")
	f.Add(`{"version":"1.1.1","ip":"1.1.1.1","netmask":"255.255.0.0","gateway":"::1","appUpdatePollInterval":1e400}`, "", "version=6.0.0")
	f.Fuzz(func(t *testing.T, body, kind, query string) {
		r := httptest.NewRequest(http.MethodPost, "/download-config", strings.NewReader(body))
		r.URL.RawQuery = query
		r.Header.Set("Content-Type", kind)
		p, err := parametersOf(r)
		if err != nil {
			return
		}
		c, err := p.config("raspberrypi4-64", "aarch64")
		if err != nil {
			return
		}
		if _, err := json.Marshal(c); err != nil {
			t.Errorf("%v: %v", c, err)
		}
		files, _ := c["files"].(map[string]string)
		for name, text := range files {
			if n := strings.Count(text, "\n"); n != 4 && n != 7 || strings.ContainsAny(text, "\r\x00") {
				t.Errorf("%s is %q", name, text)
			}
		}
	})
}

func FuzzWhatASupervisorAnswersIsDataOrRefused(f *testing.F) {
	f.Add(200, "application/json", []byte(`{"a":1}`))
	f.Add(200, "text/html; charset=utf-8", []byte("OK"))
	f.Add(302, "text/html", []byte("<script>"))
	f.Add(99, "", []byte{0xff})
	f.Fuzz(func(t *testing.T, status int, kind string, answer []byte) {
		v := relay(status, kind, answer)
		if v.status < 200 || v.status > 599 {
			t.Errorf("status %d", v.status)
		}
		if v.isJSON && !json.Valid(v.body) || !v.isJSON && (!utf8.Valid(v.body) || strings.ContainsAny(string(v.body), "<>&")) {
			t.Errorf("%q of type %q is passed on as %q", answer, kind, v.body)
		}
		w := httptest.NewRecorder()
		if err := v.write(w); err != nil {
			t.Fatal(err)
		}
		if got, _, err := mime.ParseMediaType(w.Header().Get("Content-Type")); err != nil || got != "application/json" && got != "text/plain" {
			t.Errorf("it is sent as %q", w.Header().Get("Content-Type"))
		}
		if !json.Valid(v.json()) {
			t.Errorf("among others it is %q", v.json())
		}
	})
}

func FuzzNamesOfFiles(f *testing.F) {
	f.Add("../../etc/passwd", "text/html")
	f.Add("C:\\a\r\nb.txt", "a/b; c=\"\r\n\"")
	f.Fuzz(func(t *testing.T, name, kind string) {
		got := filename(name)
		if got == "" || len(got) > 255 || strings.ContainsAny(got, "/\\") || strings.IndexFunc(got, unicode.IsControl) >= 0 || !utf8.ValidString(got) || got == ".." {
			t.Errorf("%q became %q", name, got)
		}
		if ct := contentType(kind); strings.IndexFunc(ct, unicode.IsControl) >= 0 || len(ct) > 255 {
			t.Errorf("%q became %q", kind, ct)
		}
	})
}
