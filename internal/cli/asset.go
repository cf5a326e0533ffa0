package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/dunlin/dunlin/client"
	"github.com/dunlin/dunlin/internal/fault"
)

// asset is `dunlin release asset`.
func (a *app) asset() *cobra.Command {
	return group(&cobra.Command{Use: "asset", Short: "Keep files with a release, such as notes or test reports"},
		a.assetUpload(), a.assetList(), a.assetDownload(), a.assetRemove())
}

func (a *app) assetUpload() *cobra.Command {
	var key string
	cmd := jsonFlag(a.releaseFlags(&cobra.Command{
		Use:     "upload RELEASE FILE",
		Short:   "Store a file with a release",
		Example: "  dunlin release asset upload 4f2a91c report.html\n  dunlin release asset upload 1.2.0 notes.md --key release-notes --fleet porch",
		Args:    words,
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			r, err := s.releaseOf(ctx, args[0])
			if err != nil {
				return err
			}
			f, err := os.Open(args[1])
			if err != nil {
				return fault.Wrap(fault.Invalid, err, "cannot read the file: "+err.Error())
			}
			defer f.Close() // only read
			name := filepath.Base(args[1])
			if key == "" {
				key = name
			}
			asset, err := s.UploadAsset(ctx, r.ID, key, name, f)
			if client.StatusOf(err) == http.StatusConflict {
				return fault.Newf(fault.Conflict, "release %s has an asset %q already", releaseLabel(r), key).WithHint("remove it first, or choose another --key")
			}
			if err != nil {
				return fmt.Errorf("cannot upload %s: %w", name, err)
			}
			if s.asJSON {
				return printJSON(s.out(), asset)
			}
			return s.say("Uploaded %s to release %s as %s.", plain(name, false), releaseLabel(r), plain(key, false))
		}),
	}))
	cmd.Flags().StringVar(&key, "key", "", "what to call it (default: the file's name)")
	return cmd
}

func (a *app) assetList() *cobra.Command {
	return jsonFlag(a.releaseFlags(&cobra.Command{
		Use:               "list RELEASE",
		Aliases:           []string{"ls"},
		Short:             "List the files of a release",
		Example:           "  dunlin release asset list 4f2a91c",
		Args:              words,
		ValidArgsFunction: a.complete(a.releaseNames),
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			r, err := s.releaseOf(ctx, args[0])
			if err != nil {
				return err
			}
			all, err := s.Assets(ctx, r.ID)
			if err != nil {
				return err
			}
			if s.asJSON {
				return printJSON(s.out(), all)
			}
			if len(all) == 0 {
				s.note("Release %s has no assets.", releaseLabel(r))
				return nil
			}
			t := table{header: []string{"KEY", "FILE", "TYPE", "BYTES"}}
			for _, asset := range all {
				var f client.AssetFile
				if asset.File != nil {
					f = *asset.File
				}
				t.add(asset.Key, f.Name, f.Type, fmt.Sprint(f.Size))
			}
			return t.print(s.out())
		}),
	}))
}

func (a *app) assetDownload() *cobra.Command {
	var output string
	cmd := a.releaseFlags(&cobra.Command{
		Use:               "download RELEASE KEY",
		Short:             "Fetch a file of a release",
		Example:           "  dunlin release asset download 4f2a91c report.html\n  dunlin release asset download 1.2.0 release-notes -o -",
		Args:              words,
		ValidArgsFunction: a.complete(a.releaseNames),
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			_, asset, err := s.assetNamed(ctx, args[0], args[1])
			if err != nil {
				return err
			}
			if asset.File == nil {
				return fault.Newf(fault.NotFound, "nothing was uploaded as %q yet", args[1])
			}
			content, err := s.DownloadAsset(ctx, *asset.File)
			if err != nil {
				return fmt.Errorf("cannot download %s: %w", args[1], err)
			}
			defer content.Close() // only read
			if output == "-" {
				_, err := io.Copy(s.out(), content)
				return err
			}
			if output == "" {
				// A name from elsewhere stays in this folder.
				output = filepath.Base(filepath.Clean("/" + asset.File.Name))
			}
			if err := newFile(output, content); err != nil {
				return fmt.Errorf("cannot download %s: %w", args[1], err)
			}
			return s.say("Wrote %s.", plain(output, false))
		}),
	})
	cmd.Flags().StringVarP(&output, "output", "o", "", "`FILE` to write; - is standard output (default: the name it was uploaded with)")
	return cmd
}

// newFile writes a file that is not there yet, whole or not at all.
func newFile(path string, content io.Reader) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, os.ErrExist) {
		return fault.Newf(fault.Conflict, "%s is there already", path).WithHint("choose another with --output")
	}
	if err != nil {
		return fault.Wrap(fault.Invalid, err, err.Error())
	}
	if _, err := io.Copy(f, content); err != nil {
		return errors.Join(err, f.Close(), os.Remove(path))
	}
	return f.Close()
}

func (a *app) assetRemove() *cobra.Command {
	return a.releaseFlags(&cobra.Command{
		Use:               "rm RELEASE KEY",
		Aliases:           []string{"remove"},
		Short:             "Remove a file of a release",
		Example:           "  dunlin release asset rm 4f2a91c report.html",
		Args:              words,
		ValidArgsFunction: a.complete(a.releaseNames),
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			r, asset, err := s.assetNamed(ctx, args[0], args[1])
			if err != nil {
				return err
			}
			if err := s.Delete(ctx, client.Key("release_asset", asset.ID), client.Query{}); err != nil {
				return fmt.Errorf("cannot remove %s: %w", args[1], err)
			}
			return s.say("Removed %s of release %s.", plain(asset.Key, false), releaseLabel(r))
		}),
	})
}

// assetNamed finds an asset of a release.
func (s *session) assetNamed(ctx context.Context, release, key string) (client.Release, client.Asset, error) {
	r, err := s.releaseOf(ctx, release)
	if err != nil {
		return r, client.Asset{}, err
	}
	all, err := s.Assets(ctx, r.ID)
	if err != nil {
		return r, client.Asset{}, err
	}
	for _, asset := range all {
		if asset.Key == key {
			return r, asset, nil
		}
	}
	return r, client.Asset{}, fault.Newf(fault.NotFound, "release %s has no asset %q", releaseLabel(r), key).
		WithHint("`dunlin release asset list` lists them")
}
