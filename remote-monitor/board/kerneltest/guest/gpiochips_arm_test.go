//go:build linux

package guest

var expandersOfTheKernel = []driven{
	{pca9535, "pca953x", false, true},
	{mcp23017, "mcp230xx", true, true},
	{pcf8574, "pcf857x", false, false},
}
