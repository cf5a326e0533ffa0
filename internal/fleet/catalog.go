package fleet

import (
	"encoding/json"
	"slices"
)

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
	Family           string   // slug of one of Families
	// Boot is what it starts from (sdcard, internal, image), Install what a system is written with when that is not
	// simply Boot, and Flash how, when it takes more than a card or a stick.
	Boot, Install, Flash string
	NoHDMI, LED          bool
	Bluetooth, WiFi      bool
	OS                   *OS // nil: balena makes no system for it, or no longer
}

// OS is balenaOS for a device type.
type OS struct {
	Repository string // one of OSReleases
	Machine    string // as Yocto calls the type; "" is the slug
	Flasher    bool   // the image installs the system on the device's own storage
	Partition  int    // the one with config.json; 0 is the first
	New        bool   // balena calls it new, and not released
}

// Family is a line of products, with the manufacturer's slug and name.
type Family struct{ Slug, Name, Maker, MakerName string }

// Families of the device types below. Balena's contracts put none of these types into one; they are Dunlin's.
var Families = []Family{
	{"raspberry-pi", "Raspberry Pi", "raspberry-pi", "Raspberry Pi"},
	{"jetson", "Nvidia Jetson", "nvidia", "Nvidia"},
	{"nuc", "Intel NUC", "intel", "Intel"},
}

// OSRelease is a finished version of balenaOS.
type OSRelease struct {
	Repository string // on GitHub; its file VERSION, or CHANGELOG.md, has the version
	Version    string // semantic version, with balena's revision in the build part
	Date       string // of the version, as CHANGELOG.md has it
}

// OSReleases are the newest finished versions of balenaOS, by repository, as of September 2026. A newer one is a new
// line here and leaves the rows of the older one where they are.
var OSReleases = []OSRelease{
	{"balena-os/balena-raspberrypi", "7.4.0+rev7", "2026-08-19"},
	{"balena-os/balena-generic", "8.0.0+rev4", "2026-08-21"},
	{"balena-os/balena-intel", "7.9.3+rev3", "2026-08-14"},
	{"balena-os/balena-qemu", "2.83.18+rev9", "2022-02-26"},
	{"balena-os/balena-jetson", "7.9.3+rev2", "2026-08-11"},
	{"balena-os/balena-jetson-jp5", "6.1.26+rev269", "2026-07-22"},
	{"balena-os/balena-jetson-orin", "7.0.5+rev2", "2026-07-24"},
	{"balena-os/balena-jetson-thor", "8.0.10", "2026-09-18"},
}

// DeviceTypes is the built-in catalog, with the slugs, names and aliases of balena's public contracts
// (balena-io/contracts, hw.device-type, as of July 2026), so that stock devices and tools find their type.
var DeviceTypes = slices.Concat(raspberries, generics, jetsons)

var raspberries = []DeviceType{
	{Slug: "raspberry-pi", Name: "Raspberry Pi (v1 / Zero / Zero W)", Arch: "rpi", Aliases: []string{"raspberrypi"},
		Family: "raspberry-pi", Boot: "sdcard", LED: true, Bluetooth: true, WiFi: true, OS: &OS{Repository: "balena-os/balena-raspberrypi", Machine: "raspberrypi"}},
	{Slug: "raspberry-pi2", Name: "Raspberry Pi 2", Arch: "armv7hf", Aliases: []string{"raspberrypi2"},
		Family: "raspberry-pi", Boot: "sdcard", LED: true, OS: &OS{Repository: "balena-os/balena-raspberrypi", Machine: "raspberrypi2"}},
	raspberry("raspberrypi3", "Raspberry Pi 3", "armv7hf", &OS{Repository: "balena-os/balena-raspberrypi"}),
	raspberry("raspberrypi3-64", "Raspberry Pi 3 (using 64bit OS)", "aarch64", &OS{Repository: "balena-os/balena-raspberrypi"}),
	raspberry("raspberrypi4-64", "Raspberry Pi 4 (using 64bit OS)", "aarch64", &OS{Repository: "balena-os/balena-raspberrypi"}),
	raspberry("raspberrypi400-64", "Raspberry Pi 400", "aarch64", &OS{Repository: "balena-os/balena-raspberrypi", New: true}),
	{Slug: "raspberrypicm4-ioboard", Name: "Raspberry Pi CM4 IO Board", Arch: "aarch64",
		Family: "raspberry-pi", Boot: "internal", Install: "sdcard", Flash: "RPIBOOT", LED: true, Bluetooth: true, WiFi: true,
		OS: &OS{Repository: "balena-os/balena-raspberrypi", New: true}},
	raspberry("raspberrypi5", "Raspberry Pi 5 & CM5", "aarch64", &OS{Repository: "balena-os/balena-raspberrypi"}),
	raspberry("raspberrypi0-2w-64", "Raspberry Pi Zero 2 W (64bit)", "aarch64", &OS{Repository: "balena-os/balena-raspberrypi"}),

	// Dunlin's own: balena has no 32-bit system for these boards, Raspberry Pi OS has, and the agent runs on it.
	raspberry("raspberrypi4-32", "Raspberry Pi 4 (using 32bit OS)", "armv7hf", nil),
	raspberry("raspberrypi5-32", "Raspberry Pi 5 (using 32bit OS)", "armv7hf", nil),
	raspberry("raspberrypi0-2w-32", "Raspberry Pi Zero 2 W (using 32bit OS)", "armv7hf", nil),
}

func raspberry(slug, name, arch string, os *OS) DeviceType {
	return DeviceType{Slug: slug, Name: name, Arch: arch, Family: "raspberry-pi", Boot: "sdcard", LED: true, Bluetooth: true, WiFi: true, OS: os}
}

var generics = []DeviceType{
	{Slug: "generic-amd64", Name: "Generic x86_64 (GPT)", Arch: "amd64", Boot: "internal", Install: "usb_mass_storage",
		OS: &OS{Repository: "balena-os/balena-generic", Flasher: true, New: true}},
	{Slug: "genericx86-64-ext", Name: "Generic x86_64 (legacy MBR)", Arch: "amd64", Boot: "internal", Install: "usb_mass_storage",
		OS: &OS{Repository: "balena-os/balena-intel", Flasher: true, New: true}},
	{Slug: "intel-nuc", Name: "Intel NUC", Arch: "amd64", Aliases: []string{"nuc"}, Family: "nuc", Boot: "internal", Install: "usb_mass_storage",
		Bluetooth: true, WiFi: true, OS: &OS{Repository: "balena-os/balena-intel", Machine: "genericx86-64", Flasher: true}},
	{Slug: "qemux86", Name: "QEMU X86 32bit", Arch: "i386", Boot: "image", OS: &OS{Repository: "balena-os/balena-qemu"}},
	{Slug: "qemux86-64", Name: "QEMU X86 64bit", Arch: "amd64", Boot: "image", OS: &OS{Repository: "balena-os/balena-qemu"}},
	{Slug: "generic-aarch64", Name: "Generic AARCH64", Arch: "aarch64", Boot: "sdcard", OS: &OS{Repository: "balena-os/balena-generic", New: true}},
	{Slug: "generic-armv7ahf", Name: "Generic ARMv7-a HF", Arch: "armv7hf", Boot: "sdcard"},
}

var jetsons = []DeviceType{
	{Slug: "jetson-nano", Name: "Nvidia Jetson Nano SD-CARD", Arch: "aarch64", Family: "jetson", Boot: "sdcard", Flash: "jetsonFlash",
		OS: &OS{Repository: "balena-os/balena-jetson", Partition: 12}},
	{Slug: "jetson-nano-2gb-devkit", Name: "Nvidia Jetson Nano 2GB Devkit SD", Arch: "aarch64", Family: "jetson", Boot: "sdcard", Flash: "jetsonFlash",
		WiFi: true, OS: &OS{Repository: "balena-os/balena-jetson", Partition: 14}},
	{Slug: "jetson-nano-emmc", Name: "Nvidia Jetson Nano eMMC", Arch: "aarch64", Family: "jetson", Boot: "internal", Flash: "jetsonFlash",
		OS: &OS{Repository: "balena-os/balena-jetson", Partition: 12}},
	{Slug: "jetson-tx1", Name: "Nvidia Jetson TX1", Arch: "aarch64", Family: "jetson", Boot: "internal", Install: "sdcard", Bluetooth: true, WiFi: true},
	{Slug: "jetson-tx2", Name: "Nvidia Jetson TX2", Arch: "aarch64", Family: "jetson", Boot: "internal", Install: "sdcard", Bluetooth: true, WiFi: true,
		OS: &OS{Repository: "balena-os/balena-jetson", Flasher: true}},
	{Slug: "jetson-tx2-nx-devkit", Name: "Nvidia Jetson TX2 NX (with Xavier NX Devkit)", Arch: "aarch64", Family: "jetson", Boot: "internal", Flash: "jetsonFlash",
		Bluetooth: true, WiFi: true, OS: &OS{Repository: "balena-os/balena-jetson", Partition: 24}},
	{Slug: "jetson-xavier", Name: "Nvidia Jetson Xavier", Arch: "aarch64", Family: "jetson", Boot: "internal", Flash: "jetsonFlash",
		OS: &OS{Repository: "balena-os/balena-jetson-jp5", Partition: 37}},
	{Slug: "jetson-xavier-nx-devkit", Name: "Nvidia Jetson Xavier NX Devkit SD-CARD", Arch: "aarch64", Family: "jetson", Boot: "sdcard", Flash: "jetsonFlash",
		Bluetooth: true, WiFi: true, OS: &OS{Repository: "balena-os/balena-jetson-jp5", Partition: 9}},
	{Slug: "jetson-xavier-nx-devkit-emmc", Name: "Nvidia Jetson Xavier NX Devkit eMMC", Arch: "aarch64", Family: "jetson", Boot: "internal", Flash: "jetsonFlash",
		OS: &OS{Repository: "balena-os/balena-jetson-jp5", Partition: 9}},
	orin("jetson-orin-nano-devkit-nvme", "Nvidia Jetson Orin Nano 8GB (SD) Devkit NVME"),
	orin("jetson-orin-nx-xavier-nx-devkit", "Nvidia Jetson Orin NX 16GB in Xavier NX Devkit NVME"),
	{Slug: "jetson-agx-orin-devkit", Name: "Nvidia Jetson AGX Orin Devkit 32GB", Arch: "aarch64", Family: "jetson", Boot: "internal", Flash: "jetsonFlash",
		NoHDMI: true, Bluetooth: true, WiFi: true, OS: &OS{Repository: "balena-os/balena-jetson-orin", Partition: 6}},
	{Slug: "jetson-agx-orin-devkit-64gb", Name: "Nvidia Jetson AGX Orin Devkit 64GB", Arch: "aarch64", Family: "jetson", Boot: "internal", Install: "usb_mass_storage",
		NoHDMI: true, Bluetooth: true, WiFi: true, OS: &OS{Repository: "balena-os/balena-jetson-orin", Flasher: true}},
	{Slug: "jetson-agx-thor-devkit", Name: "Nvidia Jetson AGX Thor Developer Kit", Arch: "aarch64", Family: "jetson", Boot: "internal", Install: "usb_mass_storage",
		Bluetooth: true, WiFi: true, OS: &OS{Repository: "balena-os/balena-jetson-thor", Flasher: true, New: true}},
}

func orin(slug, name string) DeviceType {
	return DeviceType{Slug: slug, Name: name, Arch: "aarch64", Family: "jetson", Boot: "internal", Install: "usb_mass_storage",
		Bluetooth: true, WiFi: true, OS: &OS{Repository: "balena-os/balena-jetson-orin", Flasher: true}}
}

// DeviceTypeOf finds a device type by its slug or an alias.
func DeviceTypeOf(name string) (DeviceType, bool) {
	for _, t := range DeviceTypes {
		if t.Slug == name || slices.Contains(t.Aliases, name) {
			return t, true
		}
	}
	return DeviceType{}, false
}

// Release is the version of balenaOS for a device type; ok is false if there is none.
func (t DeviceType) Release() (r OSRelease, ok bool) {
	if t.OS == nil {
		return r, false
	}
	i := slices.IndexFunc(OSReleases, func(r OSRelease) bool { return r.Repository == t.OS.Repository })
	return OSReleases[i], true
}

// Machine is the device type as Yocto calls it.
func (t DeviceType) Machine() string {
	if t.OS != nil && t.OS.Machine != "" {
		return t.OS.Machine
	}
	return t.Slug
}

// Contract is what the device type says of itself, in the form of balena's contracts (hw.device-type): clients find
// there how a system gets onto it, in sentences with {{name}} in them.
func (t DeviceType) Contract() []byte {
	media := map[string]any{"defaultBoot": t.Boot}
	data := map[string]any{
		"arch": t.Arch, "hdmi": !t.NoHDMI, "led": t.LED, "is_private": false, "media": media,
		"connectivity": map[string]any{"bluetooth": t.Bluetooth, "wifi": t.WiFi},
		"storage":      map[string]any{"internal": t.Boot == "internal"},
	}
	if t.Install != "" {
		media["altBoot"] = []string{t.Install}
	}
	if t.Flash != "" {
		data["flashProtocol"] = t.Flash
	}
	partials := map[string]any{"bootDevice": []string{"Connect power to the {{name}}"}}
	switch {
	case t.Flash == "RPIBOOT":
		partials["connectDevice"] = []string{"Set the jumper that keeps the {{name}} from starting by itself, and connect its USB port to your computer.",
			"Run rpiboot, so that the storage of the {{name}} appears as a disk."}
		partials["disconnectDevice"] = []string{"Disconnect the power and remove the jumper."}
	case t.Boot == "image":
		partials["instructions"] = []string{"Start the image in QEMU as a disk with network and at least 512 MB of memory."}
	case t.Flash == "" && t.Boot == "internal":
		partials["bootDeviceExternal"] = []string{"Switch the {{name}} on and choose to start from what you inserted."}
		partials["flashIndicator"] = []string{"it has switched itself off"}
	}
	contract, err := json.Marshal(map[string]any{
		"slug": t.Slug, "version": "1", "type": "hw.device-type", "name": t.Name, "aliases": append([]string{}, t.Aliases...),
		"data": data, "partials": partials,
	})
	if err != nil {
		panic(err) // strings and booleans always encode
	}
	return contract
}
