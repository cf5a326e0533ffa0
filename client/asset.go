package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
)

// Asset is a file that belongs to a release (resource release_asset).
type Asset struct {
	Row
	Key  string     `json:"asset_key"`
	File *AssetFile `json:"asset"` // nil while nothing is uploaded
}

// AssetFile is what an asset holds.
type AssetFile struct {
	Name     string `json:"filename"`
	URL      string `json:"href"`
	Type     string `json:"content_type"`
	Size     int64  `json:"size"` // bytes
	Checksum string `json:"checksum"`
}

// Assets lists the files of a release by key.
func (c *Client) Assets(ctx context.Context, release int64) ([]Asset, error) {
	return Rows[Asset](ctx, c, "release_asset", Query{
		Select: []string{"id", "asset_key", "asset"}, Filter: Filter("release eq ?", release), OrderBy: "asset_key asc",
	})
}

// UploadAsset stores a file with a release under a key. A key that is taken is an *Error with status 409. The content
// is sent as it is read.
func (c *Client) UploadAsset(ctx context.Context, release int64, key, filename string, content io.Reader) (a Asset, err error) {
	reading, writing := io.Pipe()
	form := multipart.NewWriter(writing)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		writing.CloseWithError(func() error { // it returns no error
			// First what the server decides by, then what may be large.
			for _, field := range [][2]string{{"release", strconv.FormatInt(release, 10)}, {"asset_key", key}} {
				if err := form.WriteField(field[0], field[1]); err != nil {
					return err
				}
			}
			part, err := form.CreatePart(fileHeader(filename))
			if err != nil {
				return err
			}
			if _, err := io.Copy(part, content); err != nil {
				return fmt.Errorf("read %s: %w", filename, err)
			}
			return form.Close()
		}())
	}()
	resp, err := c.Do(ctx, http.MethodPost, "/v7/release_asset", reading, form.FormDataContentType())
	reading.CloseWithError(io.ErrClosedPipe) // the server may have answered before it had read all
	<-sent
	if err != nil {
		return a, err
	}
	defer resp.Body.Close() // only read
	if resp.StatusCode >= 300 {
		return a, refusal(resp)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if err != nil {
		return a, c.unreachable(ctx, err)
	}
	if err := decodeRow(json.RawMessage(raw), &a); err != nil {
		return a, fmt.Errorf("read the new release_asset: %w", err)
	}
	return a, nil
}

// fileHeader says of a part of a form which file it is, and of what type by the ending of its name.
func fileHeader(name string) textproto.MIMEHeader {
	kind := mime.TypeByExtension(filepath.Ext(name))
	if kind == "" {
		kind = "application/octet-stream"
	}
	return textproto.MIMEHeader{
		"Content-Disposition": {mime.FormatMediaType("form-data", map[string]string{"name": "asset", "filename": name})}, "Content-Type": {kind},
	}
}

// DownloadAsset is the content of an asset; the caller closes it. The client's token goes to its own server alone.
func (c *Client) DownloadAsset(ctx context.Context, f AssetFile) (io.ReadCloser, error) {
	at, err := url.Parse(f.URL)
	if err != nil {
		return nil, fmt.Errorf("read the address of %s: %w", f.Name, err)
	}
	from := *c
	if own, err := url.Parse(c.URL); at.Host != "" && (err != nil || at.Host != own.Host || at.Scheme != own.Scheme) {
		from.URL, from.Token = at.Scheme+"://"+at.Host, ""
	}
	resp, err := from.open(ctx, http.MethodGet, "/"+strings.TrimPrefix(at.EscapedPath(), "/"), at.RawQuery, nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}
