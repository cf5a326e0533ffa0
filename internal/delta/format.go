package delta

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/dunlin/dunlin/internal/delta/entropy"
)

// magic begins every delta; the format's version follows, one byte.
const (
	magic   = "\xd7delta\n"
	version = 1
)

// Bounds of what a delta may say of itself.
const (
	layersLimit = 250
	configLimit = 4 << 20
	sizeLimit   = 1 << 50 // of a layer
	// A file of so many bytes may be made of old ones of oldFree bytes and oldTimes as many: who writes little must not make
	// a reader read much.
	oldFree  = 64 << 10
	oldTimes = 64
)

// top is what a delta says before its layers.
type top struct {
	Info
	used    []bool // old layers
	listing [][8]byte
}

// code codes the top of a delta.
func (t *top) code(x *codec) error {
	var (
		count, size entropy.Number
		keep, used  entropy.Prob
		known       entropy.Prob
		which       entropy.Byte
	)
	reading := x.c.Reading()
	h := sha256.New()
	id := func(s string) string {
		b, _ := hex.DecodeString(strings.TrimPrefix(s, "sha256:"))
		if len(b) != sha256.Size {
			b = make([]byte, sha256.Size)
		}
		for i := range b {
			b[i] = byte(x.c.Raw(8, uint64(b[i])))
		}
		h.Write(b)
		return "sha256:" + hex.EncodeToString(b)
	}
	number := func(m *entropy.Number, v, limit int64) int64 {
		v = int64(x.c.Number(m, uint64(v)))
		if v < 0 || v > limit {
			x.fail(ErrFormat)
			v = 0
		}
		fmt.Fprintln(h, v)
		return v
	}
	t.Version = version
	t.From = id(t.From)
	olds := int(number(&count, int64(len(t.FromDiff)), layersLimit))
	news := int(number(&count, int64(len(t.Layers)), layersLimit))
	if reading {
		t.FromDiff, t.used, t.listing = make([]string, olds), make([]bool, olds), make([][8]byte, olds)
		t.Layers = make([]LayerInfo, news)
	}
	for i := range t.FromDiff {
		t.FromDiff[i] = id(t.FromDiff[i])
		if t.used[i] = x.c.Bool(&used, t.used[i]); t.used[i] {
			for j, b := range t.listing[i] {
				t.listing[i][j] = byte(x.c.Raw(8, uint64(b)))
			}
			h.Write(t.listing[i][:])
		}
	}
	chain := true
	for i := range t.Layers {
		l := &t.Layers[i]
		chain = chain && i < olds
		if chain {
			l.Kept = x.c.Bool(&keep, l.Kept)
			chain = l.Kept
		}
		at := slices.Index(t.FromDiff, l.DiffID)
		switch {
		case l.Kept:
			l.DiffID = t.FromDiff[i]
		case x.c.Bool(&known, at >= 0):
			if at = int(x.c.Byte(&which, byte(at))); at >= olds {
				x.fail(ErrFormat)
				return x.failed()
			}
			l.DiffID = t.FromDiff[at]
		default:
			l.DiffID = id(l.DiffID)
		}
		l.Size = number(&size, l.Size, sizeLimit)
	}
	n := int(number(&count, int64(len(t.Config)), configLimit))
	if err := x.failed(); err != nil {
		return err
	}
	// The config names the layers; what images' configs usually say is known as well.
	x.lit.Feed([]byte(usual))
	var ids []string
	for _, l := range t.Layers {
		ids = append(ids, `"`+l.DiffID+`"`)
	}
	x.lit.Feed([]byte(`"rootfs":{"type":"layers","diff_ids":[` + strings.Join(ids, ",") + `]}}`))
	var config bytes.Buffer
	if err := x.gap(context.Background(), int64(n), x.port(bytes.NewReader(t.Config), &config), nil); err != nil {
		return err
	}
	if reading {
		t.Config = config.Bytes()
	}
	h.Write(t.Config)
	if check := h.Sum(nil); !bytes.Equal(check[:4], x.raw(slices.Clone(check[:4]))) {
		x.fail(ErrFormat)
	}
	to := sha256.Sum256(t.Config)
	t.To = "sha256:" + hex.EncodeToString(to[:])
	return x.failed()
}

// usual is what configs of images have in common.
const usual = `{"architecture":"arm64","variant":"v8","os":"linux","config":{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"ExposedPorts":{"80/tcp":{}},"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","LANG=C.UTF-8"],"Cmd":["/bin/sh","-c"],"Image":"sha256:","Volumes":null,"WorkingDir":"/app","Entrypoint":["docker-entrypoint.sh"],"OnBuild":null,"Labels":{},"ArgsEscaped":true},"container":"","container_config":{},"docker_version":"20.10.23","created":"2026-01-01T00:00:00.000000000Z","history":[{"created":"2026-01-01T00:00:00Z","created_by":"/bin/sh -c #(nop) ADD file: in / "},{"created":"2026-01-01T00:00:00Z","created_by":"/bin/sh -c #(nop)  CMD [\"bash\"]","comment":"debuerreotype 0.15","empty_layer":true},{"created":"","created_by":"RUN /bin/sh -c set -eux; \tapt-get update; \tapt-get install -y --no-install-recommends \t\tca-certificates \t\tnetbase \t\ttzdata \t; \trm -rf /var/lib/apt/lists/* # buildkit","comment":"buildkit.dockerfile.v0"},{"created":"","created_by":"COPY . . # buildkit","comment":"buildkit.dockerfile.v0"},{"created_by":"CMD [\"node\"]","comment":"buildkit.dockerfile.v0","empty_layer":true}],`
