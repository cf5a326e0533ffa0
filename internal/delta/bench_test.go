package delta

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkApply applies the delta of the pair DUNLIN_PAIRS in DUNLIN_CORPUS.
func BenchmarkApply(b *testing.B) {
	dir := os.Getenv("DUNLIN_CORPUS")
	if dir == "" {
		b.Skip("DUNLIN_CORPUS is not set")
	}
	pair := filepath.Join(dir, os.Getenv("DUNLIN_PAIRS"))
	old, err := readImage(b, filepath.Join(pair, "old"))
	if err != nil {
		b.Fatal(err)
	}
	new, err := readImage(b, filepath.Join(pair, "new"))
	if err != nil {
		b.Fatal(err)
	}
	var delta bytes.Buffer
	if _, err := Make(b.Context(), &delta, old, new, Options{}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := applied(b.Context(), old, new, delta.Bytes()); err != nil {
			b.Fatal(err)
		}
	}
}
