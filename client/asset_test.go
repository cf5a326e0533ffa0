package client_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/dunlin/dunlin/client"
)

// An address comes from the server, and may be of another place: a store of objects, or somebody's trap.
func TestTheTokenGoesToItsOwnServerAlone(t *testing.T) {
	seen := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.URL.RequestURI()+" "+r.Header.Get("Authorization"))
	}
	own, other := httptest.NewServer(http.HandlerFunc(seen)), httptest.NewServer(http.HandlerFunc(seen))
	defer own.Close()
	defer other.Close()
	c := &client.Client{URL: own.URL, Token: "secret"}
	for address, want := range map[string]string{
		own.URL + "/assets/7?token=x": "/assets/7?token=x Bearer secret",
		"/assets/7":                   "/assets/7 Bearer secret",
		other.URL + "/a%20b":          "/a%20b ",
	} {
		content, err := c.DownloadAsset(t.Context(), client.AssetFile{URL: address})
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(content)
		if err != nil || string(got) != want {
			t.Errorf("%s was asked as %q, %v; want %q", address, got, err, want)
		}
		if err := content.Close(); err != nil {
			t.Error(err)
		}
	}
}
