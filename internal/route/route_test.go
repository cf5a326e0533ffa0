package route_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/internal/route"
)

// table answers with the pattern that was found, the values of its wildcards and the query.
func table() http.Handler {
	t := route.Table{}
	for _, pattern := range []string{
		"GET /ping", "POST /api-key/v2", "GET /device/v3/{uuid}/state", "GET /device/v3/fleet/{uuid}/state", "PATCH /device/v3/state",
		"GET /auth/v1/public-keys/{name}", "POST /login_", "/v7/", "POST /supervisor/{path...}", "GET /device-types/v1/{slug}/images/{version}/download-size",
	} {
		t[pattern] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var values []string
			for _, name := range []string{"uuid", "name", "path", "slug", "version"} {
				if v := r.PathValue(name); v != "" {
					values = append(values, v)
				}
			}
			fmt.Fprintf(w, "%s %s %s ?%s", pattern, strings.Join(values, ","), r.URL.Path, r.URL.RawQuery)
		})
	}
	return t.Handler()
}

func ask(h http.Handler, method, target string) (int, string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, target, nil))
	b, _ := io.ReadAll(w.Result().Body)
	return w.Code, string(b)
}

func TestAPathIsFoundInAnyCaseAndWithASlashAtItsEnd(t *testing.T) {
	h := table()
	for _, c := range []struct{ method, target, want string }{
		{"GET", "/ping", "GET /ping  /ping ?"},
		{"GET", "/PING/", "GET /ping  /ping ?"},
		{"HEAD", "/ping", "GET /ping  /ping ?"},
		{"POST", "/api-key/v2/", "POST /api-key/v2  /api-key/v2 ?"},
		{"GET", "/Device/V3/AbC/State/?releaseUuid=Q", "GET /device/v3/{uuid}/state AbC /device/v3/AbC/state ?releaseUuid=Q"},
		{"GET", "/device/v3/FLEET/Ab/state", "GET /device/v3/fleet/{uuid}/state Ab /device/v3/fleet/Ab/state ?"},
		{"PATCH", "/device/v3/state/", "PATCH /device/v3/state  /device/v3/state ?"},
		{"GET", "/AUTH/v1/public-keys/A%2FB", "GET /auth/v1/public-keys/{name} A/B /auth/v1/public-keys/A/B ?"},
		{"POST", "/Login_/", "POST /login_  /login_ ?"},
		{"GET", "/V7/Device(uuid='A')?$filter=a[0]", "/v7/  /v7/Device(uuid='A') ?$filter=a[0]"},
		{"GET", "/v7/device/", "/v7/  /v7/device/ ?"},
		{"POST", "/Supervisor/v1/Reboot", "POST /supervisor/{path...} v1/Reboot /supervisor/v1/Reboot ?"},
		{"GET", "/device-types/V1/Raspberry/Images/2.0.0+Rev1/download-SIZE", "GET /device-types/v1/{slug}/images/{version}/download-size Raspberry,2.0.0+Rev1 /device-types/v1/Raspberry/images/2.0.0+Rev1/download-size ?"},
	} {
		if status, got := ask(h, c.method, c.target); status != 200 || got != c.want {
			t.Errorf("%s %s: %d %q, want %q", c.method, c.target, status, got, c.want)
		}
	}
}

func TestWhatIsInNoTableIsNotFoundAndAnotherMethodNotAllowed(t *testing.T) {
	h := table()
	for target, want := range map[string]int{"/": 404, "/pingo": 404, "/ping/x": 404, "/device/v3/state": 405, "/device/v3/x/y/state": 404, "/device/v3//state": 404} {
		status, text := ask(h, "DELETE", target)
		if want == 404 {
			status, text = ask(h, "GET", target)
		}
		if status != want && status/100 != 3 || strings.Contains(text, "/ping ") {
			t.Errorf("%s: %d %q, want %d", target, status, text, want)
		}
	}
}

func TestArraysInAQueryAreRepeatedParametersInTheirOrder(t *testing.T) {
	h := table()
	for query, want := range map[string]string{
		"scope[0]=a&scope[1]=b&service=x":         "a,b",
		"scope%5B1%5D=b&service=x&scope%5B0%5D=a": "a,b",
		"scope[]=a&scope[]=b":                     "a,b",
		"scope=a&scope=b":                         "a,b",
		"scope[10]=b&scope[9]=a":                  "a,b",
		"scope[0]=a%26scope%5B1%5D%3Dx&scope=b":   "a&scope[1]=x,b",
	} {
		_, got := ask(h, "GET", "/ping?"+query)
		_, raw, _ := strings.Cut(got, "?")
		q, err := url.ParseQuery(raw)
		if err != nil || strings.Join(q["scope"], ",") != want {
			t.Errorf("%s became %s: %v", query, raw, err)
		}
		if strings.Contains(query, "service") && q.Get("service") != "x" {
			t.Errorf("%s became %s", query, raw)
		}
	}
}

func TestNoPathOrQueryMakesItFall(t *testing.T) {
	h := table()
	rapid.Check(t, func(t *rapid.T) {
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.Path = "/" + rapid.String().Draw(t, "path")
		r.URL.RawQuery = rapid.String().Draw(t, "query")
		r.URL.RawPath = rapid.SampledFrom([]string{"", r.URL.EscapedPath(), "/%zz"}).Draw(t, "raw")
		h.ServeHTTP(httptest.NewRecorder(), r)
	})
}
