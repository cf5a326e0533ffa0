//go:build !race

package resource

const raced = false
