//go:build unix

package stock

import (
	"os"
	"syscall"
)

// basis is the old image, of which the system keeps in memory what is being looked at.
type basis struct{ data []byte }

func mapped(f *os.File) (*basis, error) {
	stat, err := f.Stat()
	if err != nil || stat.Size() == 0 {
		return &basis{}, err
	}
	data, err := syscall.Mmap(int(f.Fd()), 0, int(stat.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	return &basis{data}, nil
}

func (b *basis) Close() error {
	if b.data == nil {
		return nil
	}
	return os.NewSyscallError("munmap", syscall.Munmap(b.data))
}
