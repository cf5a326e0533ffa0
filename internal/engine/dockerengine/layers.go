package dockerengine

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/dunlin/dunlin/internal/engine"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/client"
	"github.com/moby/moby/client/pkg/versions"
)

// snapshotter is what an engine says of itself whose images are containerd's.
const snapshotter = "io.containerd.snapshotter.v1"

// sinceSnapshots is the version of the API (Engine 28) from which an engine lists an image of containerd's of
// which it has the snapshots and not the blobs, which is what a Load and a Pull leave behind there.
const sinceSnapshots = "1.48"

// loads sees that the engine can take in an image without all of its layers, and says whether its images are
// containerd's.
func loads(ctx context.Context, api *client.Client) (snapshots bool, err error) {
	i, err := api.Info(ctx, client.InfoOptions{})
	if err != nil {
		return false, err
	}
	snapshots = slices.ContainsFunc(i.Info.DriverStatus, func(s [2]string) bool { return s[0] == "driver-type" && s[1] == snapshotter })
	if snapshots && versions.LessThan(api.ClientVersion(), sinceSnapshots) {
		return true, fmt.Errorf("an engine with containerd's image store and API %s: %w", api.ClientVersion(), errors.ErrUnsupported)
	}
	return snapshots, nil
}

// checkLoaded is checkReference for methods that know engine.Loaded too.
func checkLoaded(ref string) error {
	if ref == engine.Loaded {
		return nil
	}
	return checkReference(ref)
}

// Layers keeps the contract.
func (e *Engine) Layers(ctx context.Context, ref string) (engine.Layers, error) {
	var l engine.Layers
	err := e.do(ctx, "look at the layers of "+ref, func(api *client.Client) error {
		if err := checkLoaded(ref); err != nil {
			return err
		}
		snapshots, err := loads(ctx, api)
		if err != nil {
			return err
		}
		i, err := api.ImageInspect(ctx, ref)
		if err != nil {
			return err
		}
		l.DiffIDs = i.RootFS.Layers
		local := strings.HasPrefix(api.DaemonHost(), "unix://")
		switch {
		case snapshots && local: // the image's ID is its manifest's digest
			l.Folders, err = mounted(ctx, api, ref)
		case !snapshots:
			l.ID = i.ID
			if i.GraphDriver != nil && i.GraphDriver.Name == "overlay2" && local {
				l.Folders = unpacked(i.GraphDriver.Data)
			}
		}
		if len(l.DiffIDs) > 0 && len(l.Folders) != len(l.DiffIDs) || !readable(l.Folders) {
			l.Folders = nil
		}
		return err
	})
	return l, err
}

// unpacked are the folders of an image as the driver overlay2 tells of them: the uppermost apart, the others from above
// to below.
func unpacked(data map[string]string) []string {
	if data["UpperDir"] == "" {
		return nil
	}
	var folders []string
	if data["LowerDir"] != "" {
		folders = strings.Split(data["LowerDir"], ":")
		slices.Reverse(folders)
	}
	folders = append(folders, data["UpperDir"])
	for i, f := range folders {
		// Some engines name a layer by its short link.
		if real, err := filepath.EvalSymlinks(f); err == nil {
			folders[i] = real
		}
	}
	return folders
}

// mounted are the folders of an image of containerd's, as the kernel tells of them for a container of it that runs: the
// engine does not say where its snapshots are. Without such a container there are none.
func mounted(ctx context.Context, api *client.Client, ref string) ([]string, error) {
	list, err := api.ContainerList(ctx, client.ContainerListOptions{})
	if err != nil {
		return nil, err
	}
	for _, c := range list.Items {
		if c.Image != ref {
			continue
		}
		x, err := api.ContainerInspect(ctx, c.ID, client.ContainerInspectOptions{})
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if s := x.Container.State; s == nil || s.Pid <= 0 || x.Container.Config == nil || x.Container.Config.Image != ref {
			continue
		} else if f, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", s.Pid)); err == nil {
			lower := lowest(f)
			f.Close()
			if len(lower) > 1 {
				// Over the image's layers is one of the container's own, with the files an engine puts in the place of the
				// image's.
				return lower[:len(lower)-1], nil
			}
		}
	}
	return nil, nil
}

// lowest reads a process's mountinfo (proc_pid_mountinfo(5)) and returns the lower folders of its root, lowest first;
// nil if that is no overlay, or one whose folders are not plain to see.
func lowest(mountinfo io.Reader) []string {
	s := bufio.NewScanner(mountinfo)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		f := strings.Fields(s.Text())
		i := slices.Index(f, "-")
		if i < 6 || i+3 >= len(f) || f[4] != "/" {
			continue
		}
		if f[i+1] != "overlay" {
			return nil
		}
		var lower []string
		for _, o := range strings.Split(f[i+3], ",") {
			if v, ok := strings.CutPrefix(o, "lowerdir="); ok {
				lower = append(lower, strings.Split(v, ":")...)
			} else if v, ok := strings.CutPrefix(o, "lowerdir+="); ok { // since Linux 6.5
				lower = append(lower, v)
			}
		}
		if slices.ContainsFunc(lower, func(p string) bool { return !strings.HasPrefix(p, "/") || strings.Contains(p, `\`) }) {
			return nil
		}
		slices.Reverse(lower)
		return lower
	}
	return nil
}

// readable reports whether all folders are there for this process.
func readable(folders []string) bool {
	return !slices.ContainsFunc(folders, func(f string) bool {
		d, err := os.Open(f)
		if err != nil {
			return true
		}
		defer d.Close()
		i, err := d.Stat()
		return err != nil || !i.IsDir()
	})
}

// Load keeps the contract. Both stores of Docker take the same archive: the classic one goes by its manifest.json and
// does not open the files of layers that it has; containerd's goes by its index.json and asks for no blob of a layer of
// which it has the snapshot. Neither needs the layers of a Pull of the same image then.
func (e *Engine) Load(ctx context.Context, archive io.Reader) error {
	return e.do(ctx, "load an image", func(api *client.Client) error {
		if _, err := loads(ctx, api); err != nil {
			return err
		}
		if err := unload(ctx, api); err != nil {
			return err
		}
		source := &watched{Reader: archive}
		err := load(ctx, api, source)
		if source.err != nil { // the reason of whatever the engine says
			err = source.err
		}
		if err == nil {
			_, err = api.ImageInspect(ctx, engine.Loaded)
		}
		return err
	})
}

func load(ctx context.Context, api *client.Client, archive io.Reader) error {
	answer, err := api.ImageLoad(ctx, archive, client.ImageLoadWithQuiet(true))
	if err != nil {
		return err
	}
	defer answer.Close()
	for d := json.NewDecoder(answer); ; {
		var message jsonstream.Message
		switch err := d.Decode(&message); {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case message.Error != nil:
			return message.Error
		}
	}
}

// loadedName is engine.Loaded without its tag.
var loadedName, _, _ = strings.Cut(engine.Loaded, ":")

// unload gives up the image that is called engine.Loaded.
func unload(ctx context.Context, api *client.Client) error {
	_, err := api.ImageRemove(ctx, engine.Loaded, client.ImageRemoveOptions{PruneChildren: true})
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// watched remembers what a reader failed with.
type watched struct {
	io.Reader
	err error
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if err != nil && err != io.EOF {
		w.err = err
	}
	return n, err
}

// Export keeps the contract.
func (e *Engine) Export(ctx context.Context, ref string, w io.Writer) error {
	return e.do(ctx, "export "+ref, func(api *client.Client) error {
		if err := checkLoaded(ref); err != nil {
			return err
		}
		if _, err := api.ImageInspect(ctx, ref); err != nil {
			return err
		}
		r, err := api.ImageSave(ctx, []string{ref})
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = io.Copy(w, r)
		return err
	})
}
