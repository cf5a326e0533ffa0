package monitor

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTheFirmwareOfARaspberryPiKnowsItsSupply(t *testing.T) {
	sys := t.TempDir()
	if FirmwareUndervoltage(sys) != nil {
		t.Error("a computer without sensors has one")
	}
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(sys, "class/hwmon", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("hwmon0/name", "cpu_thermal\n")
	write("hwmon0/in0_lcrit_alarm", "1\n")
	if FirmwareUndervoltage(sys) != nil {
		t.Error("a thermometer is taken for it")
	}
	write("hwmon1/name", "rpi_volt\n")
	write("hwmon1/in0_lcrit_alarm", "0\n")
	under := FirmwareUndervoltage(sys)
	if under == nil || under() {
		t.Fatal("the supply is good")
	}
	write("hwmon1/in0_lcrit_alarm", "1\n")
	if !under() {
		t.Error("the supply is too low")
	}
	if err := os.RemoveAll(filepath.Join(sys, "class/hwmon/hwmon1")); err != nil {
		t.Fatal(err)
	}
	if under() {
		t.Error("a sensor that is gone says that the supply is too low")
	}
}
