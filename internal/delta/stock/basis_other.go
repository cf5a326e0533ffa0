//go:build !unix

package stock

import "os"

// basis is the old image, in memory.
type basis struct{ data []byte }

func mapped(f *os.File) (*basis, error) {
	data, err := os.ReadFile(f.Name())
	return &basis{data}, err
}

func (b *basis) Close() error { return nil }
