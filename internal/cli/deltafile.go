package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dunlin/dunlin/client"
	"github.com/dunlin/dunlin/internal/archive"
	"github.com/dunlin/dunlin/internal/delta"
	"github.com/dunlin/dunlin/internal/fault"
)

// deltaFile is what the commands that work on files share.
type deltaFile struct {
	from, to, out, format, platform, dir string
	tags                                 []string
	asJSON, onlyNew                      bool
	cmd                                  *cobra.Command
}

// made is what `delta create` and `delta apply` print for programs.
type made struct {
	Format string `json:"format"`
	From   string `json:"from"`
	To     string `json:"to"`
	// Bytes are what a device downloads, NewBytes those of the layers that From does not have.
	Bytes    int64 `json:"bytes"`
	NewBytes int64 `json:"newBytes"`
	effort
}

const imageHelp = `An image is the file or folder of an archive (what ` + "`docker save`" + ` writes, or an OCI image layout), or the name of
an image of the container engine on this machine.`

func (a *app) deltaCreate() *cobra.Command {
	var f deltaFile
	cmd := jsonFlag(&cobra.Command{
		Use:   "create --from OLD --to NEW -o FILE",
		Short: "Make a delta between two images on this machine, without a server",
		Long:  "Make a delta between two images on this machine, without a server.\n\n" + imageHelp,
		Example: "  dunlin delta create --from old.tar --to new.tar -o update.delta\n" +
			"  dunlin delta create --from porch:41 --to porch:42 --platform linux/arm64 -o update.delta --json",
		Args: words,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.cmd = cmd
			return a.createDelta(cmd.Context(), f)
		},
	})
	var names []string
	for _, format := range deltaFormats() {
		names = append(names, format.name)
	}
	flags := cmd.Flags()
	flags.StringVar(&f.from, "from", "", "the image `OLD` that a device has")
	flags.StringVar(&f.to, "to", "", "the image `NEW` that it is to have")
	flags.StringVarP(&f.out, "output", "o", "", "write the delta to this `FILE`")
	flags.StringVar(&f.format, "format", names[0], "`FORMAT` of the delta: dunlin, or librsync, which stock balenaOS devices apply")
	a.fileFlags(cmd, &f)
	a.completeFlag(cmd, "format", func(context.Context, *client.Client, []string) ([]string, error) { return names, nil })
	return cmd
}

func (a *app) deltaApply() *cobra.Command {
	var f deltaFile
	cmd := jsonFlag(&cobra.Command{
		Use:   "apply FILE --from OLD -o NEW",
		Short: "Make the new image of the old one and a delta, without a server",
		Long: "Make the new image of the old one and a delta, without a server. What is written is an archive that `docker load`\n" +
			"reads; its image has the very ID that the delta was made for.\n\n" + imageHelp,
		Example: "  dunlin delta apply update.delta --from old.tar -o new.tar\n" +
			"  dunlin delta apply update.delta --from porch:41 -o - --name porch:42 | docker load",
		Args: words,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.cmd = cmd
			return a.applyDelta(cmd.Context(), f, args[0])
		},
	})
	flags := cmd.Flags()
	flags.StringVar(&f.from, "from", "", "the image `OLD` that the delta was made from")
	flags.StringVarP(&f.out, "output", "o", "", "write the new image to this file `NEW`; - is standard output")
	flags.StringArrayVar(&f.tags, "name", nil, "`NAME` for the new image, such as porch:42; may be given several times")
	flags.BoolVar(&f.onlyNew, "only-new", false, "leave out the layers that OLD has: enough for an engine that has OLD")
	a.fileFlags(cmd, &f)
	return cmd
}

func (a *app) fileFlags(cmd *cobra.Command, f *deltaFile) {
	cmd.Flags().StringVar(&f.platform, "platform", "", "`PLATFORM` of the images where there are several, such as linux/arm64")
	cmd.Flags().StringVar(&f.dir, "temporary", "", "`FOLDER` for temporary files, which may become as large as the images (default: the system's)")
	cmd.PreRun = func(cmd *cobra.Command, _ []string) {
		f.asJSON = cmd.Flags().Lookup("json").Value.String() == "true"
	}
}

func (a *app) deltaInfo() *cobra.Command {
	return jsonFlag(&cobra.Command{
		Use:     "info FILE",
		Short:   "Say what a delta in a file is of",
		Example: "  dunlin delta info update.delta\n  dunlin delta info update.delta --json",
		Args:    words,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := openPatch(args[0], "")
			if err != nil {
				return err
			}
			defer p.close() // only read
			if cmd.Flags().Lookup("json").Value.String() == "true" {
				return printJSON(cmd.OutOrStdout(), struct {
					Format string `json:"format"`
					Bytes  int64  `json:"bytes"`
					delta.Info
				}{p.format, p.bytes, p.Info})
			}
			return p.print(cmd.OutOrStdout())
		},
	})
}

func (a *app) createDelta(ctx context.Context, f deltaFile) error {
	began := a.now()
	if err := f.given("from", "to", "output"); err != nil {
		return err
	}
	format, err := f.formatNamed()
	if err != nil {
		return err
	}
	old, err := f.image(ctx, f.from)
	if err != nil {
		return err
	}
	defer old.Close() // only read
	new, err := f.image(ctx, f.to)
	if err != nil {
		return err
	}
	defer new.Close() // only read
	m := made{Format: format.name, From: old.ID, To: new.ID}
	shown := newBar(f.cmd.ErrOrStderr(), "making the delta")
	written, err := writeWhole(f.out, func(w io.Writer) (err error) {
		m.Bytes, m.NewBytes, err = format.make(ctx, w, old, new, delta.Options{Dir: f.dir, Progress: shown.set})
		return err
	})
	m.Bytes = cmp.Or(m.Bytes, written)
	shown.stop()
	if err != nil {
		return f.explain(ctx, err, "cannot make the delta")
	}
	return a.report(f, m, began, fmt.Sprintf("Wrote %s: %s for %s of layers that %s does not have", f.out, orNothing(size(client.Bytes(m.Bytes))),
		orNothing(size(client.Bytes(m.NewBytes))), f.from))
}

func (a *app) applyDelta(ctx context.Context, f deltaFile, name string) error {
	began := a.now()
	if err := f.given("from", "output"); err != nil {
		return err
	}
	if f.asJSON && f.out == "-" {
		return fault.New(fault.Invalid, "--json and the new image cannot both go to standard output").WithHint("name a file with -o")
	}
	p, err := openPatch(name, f.dir)
	if err != nil {
		return err
	}
	defer p.close() // only read
	old, err := f.image(ctx, f.from)
	if err != nil {
		return err
	}
	defer old.Close() // only read
	if old.ID != p.From {
		return fault.Newf(fault.Conflict, "cannot apply %s: it was made from image %s, and %s is %s", name, p.From, f.from, old.ID).
			WithHint("give that image as --from; `dunlin delta info " + name + "` says what the delta is of")
	}
	shown := newBar(f.cmd.ErrOrStderr(), "applying the delta")
	write := func(w io.Writer) error { return p.apply(ctx, w, old, f, shown.set) }
	if f.out == "-" {
		err = write(f.cmd.OutOrStdout())
	} else {
		_, err = writeWhole(f.out, write)
	}
	shown.stop()
	if err != nil {
		return f.explain(ctx, err, "cannot apply "+name)
	}
	if f.out == "-" {
		return nil
	}
	m := made{Format: p.format, From: p.From, To: p.To, Bytes: p.bytes, NewBytes: newLayers(p.Info)}
	return a.report(f, m, began, fmt.Sprintf("Wrote %s: image %s", f.out, p.To))
}

// given is an error unless all these flags have a value.
func (f deltaFile) given(flags ...string) error {
	for _, name := range flags {
		if f.cmd.Flags().Lookup(name).Value.String() == "" {
			return fault.Newf(fault.Invalid, "--%s is missing", name).WithHint("usage: " + f.cmd.UseLine())
		}
	}
	return nil
}

func (f deltaFile) formatNamed() (deltaFormat, error) {
	var names []string
	for _, format := range deltaFormats() {
		if format.name == f.format {
			return format, nil
		}
		names = append(names, format.name)
	}
	return deltaFormat{}, fault.Newf(fault.Invalid, "there is no format %q", f.format).WithHint("the formats are " + strings.Join(names, " and "))
}

// image opens an image that is named by its path or, if there is no such file, by its name in the local engine.
func (f deltaFile) image(ctx context.Context, name string) (*archive.Image, error) {
	o := archive.Options{Platform: f.platform, Dir: f.dir}
	_, err := os.Stat(name)
	path := strings.HasPrefix(name, ".") || filepath.IsAbs(name) || strings.HasSuffix(name, ".tar") || strings.Contains(name, `\`)
	if err == nil || path || !errors.Is(err, fs.ErrNotExist) {
		return archive.Open(name, o)
	}
	shown := newBar(f.cmd.ErrOrStderr(), "saving "+name)
	defer shown.stop()
	return archive.FromEngine(ctx, cmp.Or(os.Getenv("DOCKER_HOST"), archive.DefaultEngine), name, o)
}

// explain says for people why a delta was not made or not applied.
func (f deltaFile) explain(ctx context.Context, err error, doing string) error {
	var known *fault.Error
	switch explained := deltaFault(err, doing); {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(explained, &known):
		return explained
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// report ends a command.
func (a *app) report(f deltaFile, m made, began time.Time, done string) error {
	m.effort = effortSince(began, a.now())
	if f.asJSON {
		return printJSON(f.cmd.OutOrStdout(), m)
	}
	_, err := fmt.Fprintf(f.cmd.OutOrStdout(), "%s (%.1f s, %.1f s of CPU).\n", done, m.Wall, m.CPU)
	return err
}

// writeWhole writes a file that is there whole or not at all, and says how long it is.
func writeWhole(name string, write func(io.Writer) error) (n int64, err error) {
	file, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".")
	if err != nil {
		return 0, fault.New(fault.Invalid, "cannot write "+name+": "+err.Error())
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	buffered := bufio.NewWriterSize(file, 256<<10)
	err = write(buffered)
	if err == nil {
		err = buffered.Flush()
	}
	if err == nil {
		n, err = file.Seek(0, io.SeekCurrent)
	}
	if err == nil {
		err = file.Chmod(0o644)
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return 0, err
	}
	return n, os.Rename(file.Name(), name)
}
