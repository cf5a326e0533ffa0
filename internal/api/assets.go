package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/dunlin/dunlin/internal/asset"
	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/odata"
	"github.com/dunlin/dunlin/internal/resource"
)

// standardChunk is the size of an upload's parts where the client does not say, in bytes.
const standardChunk = 5 << 20

// maxField bounds a field of a form that is not the file, in bytes.
const maxField = 4 << 10

// Assets keeps the files of release assets; asset.Store is one.
type Assets interface {
	Stage(ctx context.Context, r io.Reader) (*asset.Staged, error)
	Open(sha string) (*os.File, error)
	Begin(u asset.Upload, now time.Time) (asset.Upload, error)
	Upload(id string, now time.Time) (asset.Upload, error)
	PutPart(ctx context.Context, id string, n int, r io.Reader, now time.Time) (tag string, err error)
	Commit(ctx context.Context, id string, parts []asset.Part, now time.Time) (asset.File, error)
	Cancel(id string) error
}

// AssetRows says which release asset has which file; store.DB is one.
type AssetRows interface {
	SetAsset(ctx context.Context, by fleet.Actor, id int64, a fleet.Asset) (fleetID, organization int64, err error)
}

var assetAction = regexp.MustCompile(`^((?:release_asset|release__has__asset_key)\([^/]+\))/(beginUpload|commitUpload|cancelUpload)$`)

// v7 answers everything below /v7/: what is about files here, the rest as resources. Only a form may be larger than a
// body is otherwise.
func (a *API) v7(rest call) call {
	return func(w http.ResponseWriter, r *http.Request, actor fleet.Actor) error {
		name := strings.TrimPrefix(r.URL.Path, "/v7/")
		kind, with, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if err == nil && kind == "multipart/form-data" && (r.Method == http.MethodPost || r.Method == http.MethodPatch) {
			return a.form(w, r, actor, name, with["boundary"])
		}
		a.hurry(w, r)
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if m := assetAction.FindStringSubmatch(name); m != nil && r.Method == http.MethodPost {
			return a.assetAction(w, r, actor, m[1], m[2])
		}
		return rest(w, r, actor)
	}
}

// form takes a release asset with its file: a new one, or another file for one that is there.
func (a *API) form(w http.ResponseWriter, r *http.Request, actor fleet.Actor, name, boundary string) error {
	if actor.Kind != fleet.UserActor {
		return unauthorized()
	}
	q, err := odata.Parse(name, r.URL.RawQuery)
	if err != nil {
		return err
	}
	if (q.Resource != "release_asset" && q.Resource != "release__has__asset_key") || a.Assets == nil {
		return fault.Newf(fault.Invalid, "%s has no files", q.Resource)
	}
	var ids []int64
	if r.Method == http.MethodPatch {
		if ids, err = a.assets(r.Context(), actor, name, r.URL.RawQuery); err != nil || len(ids) == 0 {
			return err
		}
	}
	fields, file, staged, err := a.readForm(w, r, boundary)
	if staged != nil {
		defer func() { _ = staged.Drop() }() // what stays is collected with the unfinished
	}
	if err != nil {
		return err
	}
	given, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	if r.Method == http.MethodPatch {
		if len(fields) > 0 {
			if err := a.Model.Update(r.Context(), actor, q, given); err != nil {
				return err
			}
		}
		if file == nil {
			return nil
		}
		if err := staged.Keep(); err != nil {
			return err
		}
		for _, id := range ids {
			if err := a.setAsset(r.Context(), actor, id, *file); err != nil {
				return err
			}
		}
		return nil
	}
	id, row, err := a.Model.Create(r.Context(), actor, q, given)
	if err != nil {
		return err
	}
	itself := fmt.Sprintf("release_asset(%d)", id)
	if file != nil {
		err := staged.Keep()
		if err == nil {
			err = a.setAsset(r.Context(), actor, id, *file)
		}
		if err != nil {
			gone, parseErr := odata.Parse(itself, "")
			if parseErr == nil {
				parseErr = a.Model.Delete(context.WithoutCancel(r.Context()), actor, gone)
			}
			return errors.Join(err, parseErr)
		}
		if _, err := a.Model.Find(r.Context(), actor, itself, "", &row); err != nil {
			return err
		}
	}
	w.Header().Set("Location", "/v7/release_asset(@id)?@id="+strconv.FormatInt(id, 10))
	send(w, r, http.StatusCreated, row)
	return nil
}

// assets are the ids of the release assets that a query names and the actor may change. What he may see and not change
// is fault.Denied.
func (a *API) assets(ctx context.Context, actor fleet.Actor, name, options string) ([]int64, error) {
	q, err := odata.Parse(name, options)
	if err != nil {
		return nil, err
	}
	if q.Key == nil && q.Filter == nil {
		return nil, fault.New(fault.Invalid, "which release_asset is meant? name it by a key or by $filter")
	}
	body, err := a.Model.Read(ctx, actor, q)
	if err != nil {
		return nil, err
	}
	var found struct {
		D []struct{ ID int64 } `json:"d"`
	}
	if err := json.Unmarshal(body, &found); err != nil {
		return nil, fmt.Errorf("read release assets: %w", err)
	}
	var ids []int64
	for _, row := range found.D {
		ids = append(ids, row.ID)
	}
	may, err := a.Model.Changeable(ctx, actor, "release_asset", ids, "asset_key")
	if err != nil {
		return nil, err
	}
	if len(may) != len(ids) {
		return nil, fault.New(fault.Denied, "you may not change this release_asset")
	}
	return ids, nil
}

// readForm reads the fields of a form and takes its file, if it has one. Whether the file may be kept the fields have to
// say, and they may come after it; what was taken is the caller's to drop also with an error.
func (a *API) readForm(w http.ResponseWriter, r *http.Request, boundary string) (fields map[string]any, file *fleet.Asset, staged *asset.Staged, err error) {
	if boundary == "" {
		return nil, nil, staged, fault.New(fault.Invalid, "the form does not say its boundary")
	}
	fields = map[string]any{}
	control := http.NewResponseController(w)
	defer func() { _ = control.SetReadDeadline(time.Time{}) }() // a test's recorder has no deadline
	form := multipart.NewReader(patient{r.Body, control}, boundary)
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			return fields, file, staged, nil
		}
		if err != nil {
			return nil, nil, staged, fault.Wrap(fault.Invalid, err, "the form cannot be read")
		}
		if name := part.FormName(); name != "asset" {
			value, err := io.ReadAll(io.LimitReader(part, maxField+1))
			if err != nil {
				return nil, nil, staged, fault.Wrap(fault.Invalid, err, "the form cannot be read")
			}
			if len(value) > maxField || len(fields) > 20 {
				return nil, nil, staged, fault.New(fault.TooLarge, "the form has too many or too long fields")
			}
			fields[name] = string(value)
			if id, err := strconv.ParseInt(string(value), 10, 64); err == nil && name == "release" {
				fields[name] = id
			}
			continue
		}
		if file != nil {
			return nil, nil, staged, fault.New(fault.Invalid, "a release asset has one file")
		}
		if staged, err = a.Assets.Stage(r.Context(), part); err != nil {
			return nil, nil, nil, err
		}
		file = &fleet.Asset{Filename: filename(part.FileName()), ContentType: contentType(part.Header.Get("Content-Type")), Size: staged.Size, SHA256: staged.SHA256}
	}
}

// setAsset gives a release asset its file, and tells who follows the model's changes.
func (a *API) setAsset(ctx context.Context, actor fleet.Actor, id int64, file fleet.Asset) error {
	fleetID, organization, err := a.AssetRows.SetAsset(ctx, actor, id, file)
	if err == nil && a.Model.Wrote != nil {
		a.Model.Wrote(resource.Write{Actor: actor, Verb: "change", Resource: "release_asset", IDs: []int64{id},
			Fleets: map[int64][]int64{fleetID: nil}, Organization: organization})
	}
	return err
}

// assetAction is one step of an upload in parts (protocol §6.3).
func (a *API) assetAction(w http.ResponseWriter, r *http.Request, actor fleet.Actor, name, action string) error {
	if actor.Kind != fleet.UserActor {
		return unauthorized()
	}
	ids, err := a.assets(r.Context(), actor, name, "")
	if err != nil {
		return err
	}
	if len(ids) != 1 || a.Assets == nil {
		return fault.New(fault.NotFound, "there is no such release_asset")
	}
	switch action {
	case "beginUpload":
		return a.beginUpload(w, r, ids[0])
	case "commitUpload":
		return a.commitUpload(w, r, actor, ids[0])
	}
	var given struct{ UUID string }
	if err := decode(r, &given); err != nil {
		return err
	}
	if _, err := a.uploadFor(given.UUID, ids[0]); err != nil {
		return err
	}
	return a.Assets.Cancel(given.UUID)
}

func (a *API) beginUpload(w http.ResponseWriter, r *http.Request, id int64) error {
	var given struct {
		Asset struct {
			Filename    string `json:"filename"`
			ContentType string `json:"content_type"`
			Size        int64  `json:"size"`
			ChunkSize   int64  `json:"chunk_size"`
		} `json:"asset"`
	}
	if err := decode(r, &given); err != nil {
		return err
	}
	if given.Asset.ChunkSize == 0 {
		given.Asset.ChunkSize = standardChunk
	}
	u, err := a.Assets.Begin(asset.Upload{
		For: id, Name: filename(given.Asset.Filename), Type: contentType(given.Asset.ContentType),
		Size: given.Asset.Size, Chunk: given.Asset.ChunkSize,
	}, time.Now())
	if err != nil {
		return err
	}
	type part struct {
		URL        string `json:"url"`
		ChunkSize  int64  `json:"chunkSize"`
		PartNumber int    `json:"partNumber"`
	}
	parts := make([]part, u.Parts())
	for i := range parts {
		parts[i] = part{fmt.Sprintf("%s/assets/uploads/%s/%d", a.Config.APIURL, u.ID, i+1), u.PartSize(i + 1), i + 1}
	}
	return showLarge(w, r, map[string]any{"asset": map[string]any{"uuid": u.ID, "uploadParts": parts}})
}

func (a *API) commitUpload(w http.ResponseWriter, r *http.Request, actor fleet.Actor, id int64) error {
	var given struct {
		UUID               string
		ProviderCommitData struct {
			Parts []struct {
				PartNumber int
				ETag       string
			}
		}
	}
	if err := decode(r, &given); err != nil {
		return err
	}
	u, err := a.uploadFor(given.UUID, id)
	if err != nil {
		return err
	}
	parts := make([]asset.Part, len(given.ProviderCommitData.Parts))
	for i, p := range given.ProviderCommitData.Parts {
		parts[i] = asset.Part{Number: p.PartNumber, Tag: strings.Trim(p.ETag, `"`)}
	}
	kept, err := a.Assets.Commit(r.Context(), u.ID, parts, time.Now())
	if err != nil {
		return err
	}
	if err := a.setAsset(r.Context(), actor, id, fleet.Asset{Filename: u.Name, ContentType: u.Type, Size: kept.Size, SHA256: kept.SHA256}); err != nil {
		return err
	}
	var row struct {
		Asset json.RawMessage `json:"asset"`
	}
	if _, err := a.Model.Find(r.Context(), actor, fmt.Sprintf("release_asset(%d)", id), "$select=asset", &row); err != nil {
		return err
	}
	return show(w, row.Asset)
}

// uploadFor finds an upload, if it is one for that release asset.
func (a *API) uploadFor(uuid string, id int64) (asset.Upload, error) {
	u, err := a.Assets.Upload(uuid, time.Now())
	if err == nil && u.For != id {
		err = fault.New(fault.NotFound, "there is no such upload")
	}
	return u, err
}

// putPart takes one part of an upload from whoever knows its address.
func (a *API) putPart(w http.ResponseWriter, r *http.Request, _ fleet.Actor) error {
	n, err := strconv.Atoi(r.PathValue("part"))
	if err != nil || a.Assets == nil {
		return fault.New(fault.NotFound, "there is no such part")
	}
	control := http.NewResponseController(w)
	defer func() { _ = control.SetReadDeadline(time.Time{}) }() // a test's recorder has no deadline
	tag, err := a.Assets.PutPart(r.Context(), r.PathValue("upload"), n, patient{r.Body, control}, time.Now())
	if err != nil {
		return err
	}
	w.Header().Set("ETag", `"`+tag+`"`)
	return nil
}

// AssetLink is what comes before and after the id of a release asset in its address: the address is good by itself, for
// a while, for the actor it was made for.
func (a *API) AssetLink(actor fleet.Actor) (before, after string) {
	return a.Config.APIURL + "/assets/", "?token=" + a.Auth.Link(actor)
}

// assetFile answers the file of a release asset, whole or in part, to whoever may read the row. Nothing in it is for a
// browser to show or run.
func (a *API) assetFile(w http.ResponseWriter, r *http.Request, _ fleet.Actor) error {
	actor, err := a.Auth.Request(r)
	if token := r.URL.Query().Get("token"); err == nil && token != "" {
		actor, err = a.Auth.Linked(r.Context(), token)
	}
	if err != nil {
		return err
	}
	missing := fault.New(fault.NotFound, "there is no such asset")
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil || a.Assets == nil {
		return missing
	}
	var row struct {
		Asset *struct {
			Filename    string
			ContentType string `json:"content_type"`
			Checksum    string
		}
	}
	if _, err := a.Model.Find(r.Context(), actor, fmt.Sprintf("release_asset(%d)", id), "$select=asset", &row); err != nil {
		return err
	}
	if row.Asset == nil {
		return missing
	}
	found, sum := row.Asset, strings.TrimPrefix(row.Asset.Checksum, "sha256:")
	f, err := a.Assets.Open(sum)
	if err != nil {
		return err
	}
	defer f.Close() // only read
	h := w.Header()
	h.Set("Content-Type", found.ContentType)
	h.Set("Content-Disposition", "attachment; filename*=UTF-8''"+url.PathEscape(found.Filename))
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	h.Set("ETag", `"`+sum+`"`)
	http.ServeContent(w, r, "", time.Time{}, f)
	return nil
}

// filename is the last part of a file's name as a client gives it, without what no name should have.
func filename(given string) string {
	given = path.Base(strings.ReplaceAll(given, `\`, "/"))
	given = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, strings.ToValidUTF8(given, ""))
	if len(given) > 255 || given == "" || given == "." || given == "/" {
		return "asset"
	}
	return given
}

// contentType is a media type as a client gives it, if it is one.
func contentType(given string) string {
	kind, with, err := mime.ParseMediaType(given)
	if formatted := mime.FormatMediaType(kind, with); err == nil && formatted != "" && len(formatted) <= 255 {
		return formatted
	}
	return "application/octet-stream"
}
