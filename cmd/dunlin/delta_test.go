package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/registry"
)

func TestTheBoundsOfDeltasAreReadAsPeopleWriteThem(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "12345": 12345, "7B": 7, "1kB": 1000, "500 MB": 500_000_000, "20GB": 20_000_000_000, "1GiB": 1 << 30, "3tb": 3_000_000_000_000,
	} {
		if got, err := parseBytes("--delta-space", text); err != nil || got != want {
			t.Errorf("%q is %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "GB", "-1", "1.5GB", "1XB", "99999999999TB", "1 G B"} {
		if got, err := parseBytes("--delta-space", text); !fault.Is(err, fault.Invalid) || fault.Hint(err) == "" {
			t.Errorf("%q is %d, %v", text, got, err)
		}
	}
	for _, args := range []string{
		"--delta-jobs -1", "--delta-jobs 65", "--delta-space much", "--delta-memory 1MB", "--delta-timeout 1s", "--delta-wait 59s", "--delta-wait -1s",
	} {
		if _, err := completed(t, strings.Fields(args), nil, ""); !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), strings.Fields(args)[0]) {
			t.Errorf("%s: %v", args, err)
		}
	}
	o, err := completed(t, strings.Fields("--delta-jobs 0 --delta-space 0 --delta-memory 2GB --delta-wait 0s"), nil, "delta-timeout: 1h")
	if err != nil || o.deltaJobs != 0 || o.deltaBytes != 0 || o.memoryBytes != 2e9 || o.deltaWait != 0 || o.deltaTimeout != time.Hour {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestWhatWasSentToItsEndIsTold(t *testing.T) {
	const repository = "v2/0123456789abcdef0123456789abcdef"
	content := strings.Repeat("x", 1000)
	digest := registry.Digest([]byte(content))
	for name, c := range map[string]struct {
		path, ranges string
		breaks       bool // the device leaves in the middle
		want         string
	}{
		"a blob":                  {"/v2/" + repository + "/blobs/" + digest, "", false, repository + "@" + digest},
		"its second half":         {"/v2/" + repository + "/blobs/" + digest, "bytes=500-", false, repository + "@" + digest},
		"its last byte":           {"/v2/" + repository + "/blobs/" + digest, "bytes=-1", false, repository + "@" + digest},
		"its first half":          {"/v2/" + repository + "/blobs/" + digest, "bytes=0-499", false, ""},
		"a blob that broke off":   {"/v2/" + repository + "/blobs/" + digest, "", true, ""},
		"a manifest":              {"/v2/" + repository + "/manifests/" + digest, "", false, repository + "@" + digest},
		"something of neither":    {"/v2/", "", false, ""},
		"a second half broke off": {"/v2/" + repository + "/blobs/" + digest, "bytes=500-", true, ""},
	} {
		r := httptest.NewRequest(http.MethodGet, c.path, nil)
		if c.ranges != "" {
			r.Header.Set("Range", c.ranges)
		}
		w := &counter{ResponseWriter: httptest.NewRecorder()}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
		if c.breaks {
			w.bytes--
		}
		got := ""
		if repository, digest, ok := sentWhole(r, w); ok {
			got = repository + "@" + digest
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
