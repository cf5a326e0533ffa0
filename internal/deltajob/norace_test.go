//go:build !race

package deltajob_test

const raced = false
