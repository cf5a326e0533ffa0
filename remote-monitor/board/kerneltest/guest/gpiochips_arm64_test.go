//go:build linux

package guest

var expandersOfTheKernel = []driven{{pca9535, "pca953x", false, true}}
