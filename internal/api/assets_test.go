package api_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dunlin/dunlin/internal/asset"
)

// post sends a release asset as balena's client does: a form with the file in it.
func (s *server) post(token, method, target string, fields [][2]string, file string) (*http.Response, []byte) {
	s.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for _, f := range fields {
		if err := form.WriteField(f[0], f[1]); err != nil {
			s.t.Fatal(err)
		}
	}
	part, err := form.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {`form-data; name="asset"; filename="../hello \"world\".txt"`}, "Content-Type": {"text/plain"},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := io.WriteString(part, file); err != nil {
		s.t.Fatal(err)
	}
	if err := form.Close(); err != nil {
		s.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.URL+target, &body)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", form.FormDataContentType())
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp, answer
}

// fetch gets an address without credentials, as balena's client gets an asset.
func (s *server) fetch(method, href string, header ...string) (*http.Response, string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, href, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp, string(body)
}

type assetRow struct {
	ID    int64
	Key   string `json:"asset_key"`
	Asset *struct {
		Filename, Href, Checksum string
		ContentType              string `json:"content_type"`
		Size                     int64
	}
}

func (s *server) asset(token string, id int64) (row assetRow) {
	s.t.Helper()
	var rows struct{ D []assetRow }
	if err := json.Unmarshal(s.want(200, token, "GET", fmt.Sprintf("/v7/release_asset(%d)", id), ""), &rows); err != nil {
		s.t.Fatal(err)
	}
	if len(rows.D) != 1 {
		s.t.Fatalf("%d assets", len(rows.D))
	}
	return rows.D[0]
}

// uploaded makes a release with an asset.
func (s *server) uploaded(fleetID int64, content string) (row assetRow) {
	s.t.Helper()
	s.api.Config.APIURL = s.URL
	r := s.release(fleetID, "ab", false)
	resp, answer := s.post(s.token, "POST", "/v7/release_asset", [][2]string{{"release", fmt.Sprint(r.ID)}, {"asset_key", "a/b"}}, content)
	if err := json.Unmarshal(answer, &row); err != nil || resp.StatusCode != 201 {
		s.t.Fatalf("%d %s %v", resp.StatusCode, answer, err)
	}
	return row
}

func TestAReleaseAssetIsUploadedAndFetched(t *testing.T) {
	s := newServer(t)
	id := s.fleet("porch")
	row := s.uploaded(id, "hello")
	a := row.Asset
	if row.Key != "a/b" || a == nil || a.Filename != `hello "world".txt` || a.ContentType != "text/plain" || a.Size != 5 ||
		a.Checksum != "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" {
		t.Fatalf("%+v %+v", row, a)
	}
	resp, got := s.fetch("GET", a.Href)
	if got != "hello" || resp.StatusCode != 200 || resp.Header.Get("Content-Disposition") != `attachment; filename*=UTF-8''hello%20%22world%22.txt` ||
		!strings.Contains(resp.Header.Get("Content-Security-Policy"), "sandbox") || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%d %q %v", resp.StatusCode, got, resp.Header)
	}
	if resp, got := s.fetch("GET", a.Href, "Range", "bytes=1-3"); resp.StatusCode != 206 || got != "ell" {
		t.Errorf("a part: %d %q", resp.StatusCode, got)
	}
	if resp, got := s.fetch("HEAD", a.Href); resp.StatusCode != 200 || got != "" || resp.ContentLength != 5 {
		t.Errorf("HEAD: %d %q", resp.StatusCode, got)
	}
	if resp, _ := s.fetch("GET", a.Href, "If-None-Match", resp.Header.Get("ETag")); resp.StatusCode != 304 {
		t.Errorf("again: %d", resp.StatusCode)
	}
	plain, _, _ := strings.Cut(a.Href, "?")
	if _, got := s.fetch("GET", plain, "Authorization", "Bearer "+s.token); got != "hello" {
		t.Errorf("by key: %q", got)
	}
	if resp, answer := s.post(s.token, "PATCH", fmt.Sprintf("/v7/release_asset(%d)", row.ID), nil, "other"); resp.StatusCode != 200 || len(answer) > 0 {
		t.Errorf("another file: %d %s", resp.StatusCode, answer)
	}
	if _, got := s.fetch("GET", s.asset(s.token, row.ID).Asset.Href); got != "other" {
		t.Errorf("the other file is %q", got)
	}
	files, err := s.db.AssetFiles(t.Context())
	if err != nil || len(files) != 1 {
		t.Errorf("the rows name %v: %v", files, err)
	}
	s.want(200, s.token, "DELETE", fmt.Sprintf("/v7/release_asset(%d)", row.ID), "")
	if resp, got := s.fetch("GET", a.Href); resp.StatusCode != 404 {
		t.Errorf("after it is deleted: %d %q", resp.StatusCode, got)
	}
}

func TestALargeAssetComesInParts(t *testing.T) {
	s := newServer(t)
	s.api.Config.APIURL = s.URL
	r := s.release(s.fleet("porch"), "ab", false)
	var row assetRow
	if err := json.Unmarshal(s.want(201, s.token, "POST", "/v7/release_asset", fmt.Sprintf(`{"asset_key":"k","release":%d,"asset":null}`, r.ID)), &row); err != nil || row.Asset != nil {
		t.Fatal(row, err)
	}
	at := fmt.Sprintf("/v7/release_asset(%d)/", row.ID)
	whole := strings.Repeat("0123456789abcdef", 10_000)
	var begun struct {
		Asset struct {
			UUID        string
			UploadParts []struct {
				URL                   string
				ChunkSize, PartNumber int
			}
		}
	}
	begin := fmt.Sprintf(`{"asset":{"filename":"big.bin","content_type":"application/x-thing","size":%d,"chunk_size":65536}}`, len(whole))
	if err := json.Unmarshal(s.want(200, s.token, "POST", at+"beginUpload", begin), &begun); err != nil || len(begun.Asset.UploadParts) != 3 {
		t.Fatal(begun, err)
	}
	type tag struct {
		PartNumber int
		ETag       string
	}
	var tags []tag
	for _, p := range begun.Asset.UploadParts {
		offset := (p.PartNumber - 1) * 65536
		req, err := http.NewRequestWithContext(t.Context(), "PUT", p.URL, strings.NewReader(whole[offset:offset+p.ChunkSize]))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		tags = append(tags, tag{p.PartNumber, strings.Trim(resp.Header.Get("ETag"), `"`)})
	}
	commit := func(uuid string) string {
		b, err := json.Marshal(map[string]any{"uuid": uuid, "providerCommitData": map[string]any{"Parts": tags}})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	_, stranger := s.newUser("globex")
	s.want(404, stranger, "POST", at+"commitUpload", commit(begun.Asset.UUID))
	s.want(404, s.token, "POST", at+"commitUpload", commit(strings.Repeat("0", 32)))
	other := s.want(201, s.token, "POST", "/v7/release_asset", fmt.Sprintf(`{"asset_key":"other","release":%d}`, r.ID))
	var beside assetRow
	if err := json.Unmarshal(other, &beside); err != nil {
		t.Fatal(err)
	}
	for _, action := range []string{"commitUpload", "cancelUpload"} { // what was begun for one is not another's
		s.want(404, s.token, "POST", fmt.Sprintf("/v7/release_asset(%d)/%s", beside.ID, action), commit(begun.Asset.UUID))
	}
	s.want(200, s.token, "POST", at+"commitUpload", commit(begun.Asset.UUID))
	a := s.asset(s.token, row.ID).Asset
	if a == nil || a.Filename != "big.bin" || a.ContentType != "application/x-thing" || a.Size != int64(len(whole)) {
		t.Fatalf("%+v", a)
	}
	if _, got := s.fetch("GET", a.Href); got != whole {
		t.Errorf("%d bytes came back", len(got))
	}
	s.want(404, s.token, "POST", at+"commitUpload", commit(begun.Asset.UUID))
	// An upload that is given up takes no more parts, and leaves what was there.
	if err := json.Unmarshal(s.want(200, s.token, "POST", at+"beginUpload", begin), &begun); err != nil {
		t.Fatal(err)
	}
	s.want(200, s.token, "POST", at+"cancelUpload", fmt.Sprintf(`{"uuid":%q}`, begun.Asset.UUID))
	if resp, _ := s.fetch("PUT", begun.Asset.UploadParts[0].URL); resp.StatusCode != 404 {
		t.Errorf("a part after that: %d", resp.StatusCode)
	}
	if s.asset(s.token, row.ID).Asset == nil {
		t.Error("the file is gone")
	}
}

func TestAnAssetIsWrittenByDevelopersAndReadByWhoeverMayLook(t *testing.T) {
	s := newServer(t)
	id := s.fleet("porch")
	row := s.uploaded(id, "secret")
	_, stranger := s.newUser("globex")
	_, observer := s.colleague("olga", "observer")
	_, developer := s.colleague("dora", "developer")
	_, device := s.device(id, "")
	at, r := fmt.Sprintf("/v7/release_asset(%d)", row.ID), s.one(fmt.Sprintf("/v7/release?$select=id&$filter=belongs_to__application eq %d", id))["id"]
	fields := [][2]string{{"asset_key", "new"}, {"release", fmt.Sprint(r)}} // in any order
	for name, c := range map[string]struct {
		token              string
		read, create, file int
	}{
		"nobody": {"", 401, 401, 401}, "another tenant": {stranger, 404, 401, 200}, "an observer": {observer, 200, 401, 401},
		"a device": {device, 200, 401, 401}, "a developer": {developer, 200, 201, 200},
	} {
		header := []string{"Authorization", "Bearer " + c.token}
		if c.token == "" {
			header = nil
		}
		if resp, got := s.fetch("GET", fmt.Sprintf("%s/assets/%d", s.URL, row.ID), header...); resp.StatusCode != c.read || (c.read == 200) != (got == "secret") {
			t.Errorf("%s reads: %d %q", name, resp.StatusCode, got)
		}
		if resp, answer := s.post(c.token, "POST", "/v7/release_asset", fields, "x"); resp.StatusCode != c.create {
			t.Errorf("%s creates: %d %s", name, resp.StatusCode, answer)
		}
		if resp, answer := s.post(c.token, "PATCH", at, nil, "secret"); resp.StatusCode != c.file {
			t.Errorf("%s writes: %d %s", name, resp.StatusCode, answer)
		}
		want := 401
		switch {
		case c.create == 201:
			want = 200
		case c.token == stranger:
			want = 404
		}
		if resp, answer := s.send(c.token, "POST", at+"/beginUpload", `{"asset":{"filename":"f","content_type":"t","size":10}}`); resp.StatusCode != want {
			t.Errorf("%s begins an upload: %d %s, want %d", name, resp.StatusCode, answer, want)
		}
	}
	if got := s.asset(s.token, row.ID).Asset; got.Size != 6 {
		t.Errorf("it is now %+v", got)
	}
	// What was refused fills no disk.
	const refused = "a stranger's own"
	if resp, answer := s.post(stranger, "POST", "/v7/release_asset", fields, refused); resp.StatusCode != 401 {
		t.Errorf("a stranger creates: %d %s", resp.StatusCode, answer)
	}
	if err := filepath.WalkDir(s.api.Assets.(*asset.Store).Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if b, err := os.ReadFile(path); err != nil || string(b) == refused {
			t.Errorf("%s is left, %v", path, err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if resp, answer := s.post(s.token, "POST", "/v7/release_asset", fields, "x"); resp.StatusCode != 409 || !bytes.Contains(answer, []byte("must be unique")) {
		t.Errorf("a key that is taken: %d %s", resp.StatusCode, answer)
	}
	if resp, answer := s.post(s.token, "POST", "/v7/device", fields, "x"); resp.StatusCode != 400 {
		t.Errorf("a file for a device: %d %s", resp.StatusCode, answer)
	}
	if resp, answer := s.post(s.token, "PATCH", "/v7/release_asset", nil, "x"); resp.StatusCode != 400 {
		t.Errorf("a file for all: %d %s", resp.StatusCode, answer)
	}
}

func TestAnAddressOfAnAssetIsGoodForAWhileAndForItsMakerAlone(t *testing.T) {
	s := newServer(t)
	row := s.uploaded(s.fleet("porch"), "secret")
	href := row.Asset.Href
	at, token, _ := strings.Cut(href, "?token=")
	if resp, _ := s.fetch("GET", s.URL+"/v7/device", "Authorization", "Bearer "+token); resp.StatusCode != 401 {
		t.Errorf("as a key it is answered %d", resp.StatusCode)
	}
	about, mac, _ := strings.Cut(token, ".")
	made, err := base64.RawURLEncoding.DecodeString(about)
	if err != nil {
		t.Fatal(err)
	}
	forged := base64.RawURLEncoding.EncodeToString(append(made, ' ')) + "." + mac
	for name, bad := range map[string]string{
		"forged": "?token=" + forged, "none": "", "another": "?token=a.b", "half": "?token=" + token[:len(token)/2], "one letter off": "?token=" + strings.Map(func(r rune) rune {
			if r == 'e' {
				return 'f'
			}
			return r
		}, token), "as a key": "?apikey=" + url.QueryEscape(token),
	} {
		if resp, got := s.fetch("GET", at+bad); resp.StatusCode != 401 {
			t.Errorf("%s: %d %q", name, resp.StatusCode, got)
		}
	}
	s.exec(`UPDATE organization_memberships SET role = (SELECT id FROM roles WHERE name = 'member')`)
	if resp, _ := s.fetch("GET", href); resp.StatusCode != 404 {
		t.Errorf("after the user left the fleet: %d", resp.StatusCode)
	}
	s.exec(`UPDATE organization_memberships SET role = (SELECT id FROM roles WHERE name = 'owner')`)
	if resp, _ := s.fetch("GET", href); resp.StatusCode != 200 {
		t.Errorf("and came back: %d", resp.StatusCode)
	}
	now := time.Now()
	s.auth.Now = func() time.Time { return now.Add(16 * time.Minute) }
	if resp, _ := s.fetch("GET", href); resp.StatusCode != 401 {
		t.Errorf("after a quarter of an hour: %d", resp.StatusCode)
	}
	s.auth.Now = nil
	s.exec(`DELETE FROM api_keys`)
	if resp, _ := s.fetch("GET", href); resp.StatusCode != 401 {
		t.Errorf("after its key was revoked: %d", resp.StatusCode)
	}
}
