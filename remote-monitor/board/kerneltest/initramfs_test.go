package kerneltest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
)

// initramfs is a cpio archive in the format newc (Documentation/driver-api/early-userspace/buffer-format.rst of the
// kernel): the guest as /init, and the modules below /modules, whose names sort in the order of loading.
func initramfs(init string, modules []string) ([]byte, error) {
	var b bytes.Buffer
	inode := 0
	add := func(name string, mode uint32, content []byte) {
		inode++
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
			inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
		b.WriteString(name + "\x00")
		pad(&b)
		b.Write(content)
		pad(&b)
	}
	for _, dir := range []string{"dev", "modules", "proc", "sys"} {
		add(dir, 0o040755, nil)
	}
	content, err := os.ReadFile(init)
	if err != nil {
		return nil, err
	}
	add("init", 0o100755, content)
	for _, m := range modules {
		if content, err = os.ReadFile(m); err != nil {
			return nil, err
		}
		add("modules/"+filepath.Base(m), 0o100644, content)
	}
	add("TRAILER!!!", 0, nil)
	return b.Bytes(), nil
}

func pad(b *bytes.Buffer) {
	for b.Len()%4 != 0 {
		b.WriteByte(0)
	}
}
