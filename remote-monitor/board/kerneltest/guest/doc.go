// Package guest owns what runs inside of a machine of kerneltest; it holds tests only, and outside of such a machine
// they do nothing.
package guest
