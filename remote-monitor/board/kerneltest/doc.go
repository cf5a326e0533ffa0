// Package kerneltest owns the tests of board on kernels of Debian in QEMU; it does not own the drivers nor the
// simulated chips, and holds tests only.
//
// The pieces: kernels_test.go fetches a kernel package and keeps its image and the modules that are needed.
// kerneltest/guest is a test binary that is cross-compiled and runs as /init, the only program of the machine.
// initramfs_test.go packs it with the modules, machine_test.go boots it in QEMU, whose emulation runs anywhere, and
// each test of the guest becomes a subtest here.
//
// In the guest a USB host controller of the kernel (vhci-hcd) gets its device over a socket (USB/IP) from the guest
// itself: an i2c-tiny-usb, behind which are the chips of boardtest. That makes a genuine /dev/i2c-N: what board does
// goes through i2c-dev, the I2C core and an adapter's driver, down to bytes on the simulated wire. On the same wire
// the kernel's own drivers for these chips say independently what the simulated chips say.
package kerneltest
