//go:build race

package resource

const raced = true
