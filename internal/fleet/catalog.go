package fleet

// Architecture is a processor architecture, by balena's slug.
type Architecture struct {
	Slug     string
	OS       string   // of the OCI platform
	Arch     string   // of the OCI platform
	Variant  string   // of the OCI platform
	GoArch   string   // GOARCH
	GoArm    string   // GOARM, for 32-bit ARM
	Runs     []string // slugs of further architectures whose images run here, all of them
	Platform string   // os/arch[/variant], as BuildKit and Docker spell it
}

// Architectures are the ones a fleet can be for: balena's six. On ARM, Runs says what balena's SDK says; balena does
// not mix the x86 ones, but their processors do.
var Architectures = []Architecture{
	{Slug: "aarch64", OS: "linux", Arch: "arm64", GoArch: "arm64", Platform: "linux/arm64", Runs: []string{"armv7hf", "rpi"}},
	{Slug: "amd64", OS: "linux", Arch: "amd64", GoArch: "amd64", Platform: "linux/amd64", Runs: []string{"i386", "i386-nlp"}},
	{Slug: "armv7hf", OS: "linux", Arch: "arm", Variant: "v7", GoArch: "arm", GoArm: "7", Platform: "linux/arm/v7", Runs: []string{"rpi"}},
	{Slug: "i386", OS: "linux", Arch: "386", GoArch: "386", Platform: "linux/386", Runs: []string{"i386-nlp"}},
	{Slug: "i386-nlp", OS: "linux", Arch: "386", GoArch: "386", Platform: "linux/386"},
	{Slug: "rpi", OS: "linux", Arch: "arm", Variant: "v6", GoArch: "arm", GoArm: "6", Platform: "linux/arm/v6"},
}

// ArchitectureOf finds an architecture by its slug.
func ArchitectureOf(slug string) (Architecture, bool) {
	for _, a := range Architectures {
		if a.Slug == slug {
			return a, true
		}
	}
	return Architecture{}, false
}

// MayRun reports whether a device of architecture device runs images built for architecture image.
func MayRun(device, image string) bool {
	if device == image {
		return true
	}
	a, _ := ArchitectureOf(device)
	for _, r := range a.Runs {
		if r == image {
			return true
		}
	}
	return false
}

// DeviceType is a kind of board or computer, by balena's slug.
type DeviceType struct {
	Slug, Name, Arch string
	Aliases          []string // besides the slug itself
}

// DeviceTypes is the built-in catalog, with the slugs, names and aliases of balena's public contracts
// (balena-io/contracts, hw.device-type, as of July 2026), so that stock devices and tools find their type.
var DeviceTypes = []DeviceType{
	{Slug: "raspberry-pi", Name: "Raspberry Pi (v1 / Zero / Zero W)", Arch: "rpi", Aliases: []string{"raspberrypi"}},
	{Slug: "raspberry-pi2", Name: "Raspberry Pi 2", Arch: "armv7hf", Aliases: []string{"raspberrypi2"}},
	{Slug: "raspberrypi3", Name: "Raspberry Pi 3", Arch: "armv7hf"},
	{Slug: "raspberrypi3-64", Name: "Raspberry Pi 3 (using 64bit OS)", Arch: "aarch64"},
	{Slug: "raspberrypi4-64", Name: "Raspberry Pi 4 (using 64bit OS)", Arch: "aarch64"},
	{Slug: "raspberrypi400-64", Name: "Raspberry Pi 400", Arch: "aarch64"},
	{Slug: "raspberrypicm4-ioboard", Name: "Raspberry Pi CM4 IO Board", Arch: "aarch64"},
	{Slug: "raspberrypi5", Name: "Raspberry Pi 5 & CM5", Arch: "aarch64"},
	{Slug: "raspberrypi0-2w-64", Name: "Raspberry Pi Zero 2 W (64bit)", Arch: "aarch64"},

	// Dunlin's own: balena has no 32-bit system for these boards, Raspberry Pi OS has, and the agent runs on it.
	{Slug: "raspberrypi4-32", Name: "Raspberry Pi 4 (using 32bit OS)", Arch: "armv7hf"},
	{Slug: "raspberrypi5-32", Name: "Raspberry Pi 5 (using 32bit OS)", Arch: "armv7hf"},
	{Slug: "raspberrypi0-2w-32", Name: "Raspberry Pi Zero 2 W (using 32bit OS)", Arch: "armv7hf"},

	{Slug: "generic-amd64", Name: "Generic x86_64 (GPT)", Arch: "amd64"},
	{Slug: "genericx86-64-ext", Name: "Generic x86_64 (legacy MBR)", Arch: "amd64"},
	{Slug: "intel-nuc", Name: "Intel NUC", Arch: "amd64", Aliases: []string{"nuc"}},
	{Slug: "qemux86", Name: "QEMU X86 32bit", Arch: "i386"},
	{Slug: "qemux86-64", Name: "QEMU X86 64bit", Arch: "amd64"},
	{Slug: "generic-aarch64", Name: "Generic AARCH64", Arch: "aarch64"},
	{Slug: "generic-armv7ahf", Name: "Generic ARMv7-a HF", Arch: "armv7hf"},

	{Slug: "jetson-nano", Name: "Nvidia Jetson Nano SD-CARD", Arch: "aarch64"},
	{Slug: "jetson-nano-2gb-devkit", Name: "Nvidia Jetson Nano 2GB Devkit SD", Arch: "aarch64"},
	{Slug: "jetson-nano-emmc", Name: "Nvidia Jetson Nano eMMC", Arch: "aarch64"},
	{Slug: "jetson-tx1", Name: "Nvidia Jetson TX1", Arch: "aarch64"},
	{Slug: "jetson-tx2", Name: "Nvidia Jetson TX2", Arch: "aarch64"},
	{Slug: "jetson-tx2-nx-devkit", Name: "Nvidia Jetson TX2 NX (with Xavier NX Devkit)", Arch: "aarch64"},
	{Slug: "jetson-xavier", Name: "Nvidia Jetson Xavier", Arch: "aarch64"},
	{Slug: "jetson-xavier-nx-devkit", Name: "Nvidia Jetson Xavier NX Devkit SD-CARD", Arch: "aarch64"},
	{Slug: "jetson-xavier-nx-devkit-emmc", Name: "Nvidia Jetson Xavier NX Devkit eMMC", Arch: "aarch64"},
	{Slug: "jetson-orin-nano-devkit-nvme", Name: "Nvidia Jetson Orin Nano 8GB (SD) Devkit NVME", Arch: "aarch64"},
	{Slug: "jetson-orin-nx-xavier-nx-devkit", Name: "Nvidia Jetson Orin NX 16GB in Xavier NX Devkit NVME", Arch: "aarch64"},
	{Slug: "jetson-agx-orin-devkit", Name: "Nvidia Jetson AGX Orin Devkit 32GB", Arch: "aarch64"},
	{Slug: "jetson-agx-orin-devkit-64gb", Name: "Nvidia Jetson AGX Orin Devkit 64GB", Arch: "aarch64"},
	{Slug: "jetson-agx-thor-devkit", Name: "Nvidia Jetson AGX Thor Developer Kit", Arch: "aarch64"},
}
