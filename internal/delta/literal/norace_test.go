//go:build !race

package literal

const raced = false
