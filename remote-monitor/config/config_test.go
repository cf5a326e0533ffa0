package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/remote-monitor/config"
)

func TestTheOriginalsEnvironmentIsUnderstood(t *testing.T) {
	got, err := config.Parse([]string{
		"PATH=/bin", "RESIN_DEVICE_NAME_AT_INIT=old", "BALENA_DEVICE_NAME_AT_INIT=calm-otter",
		"REMOTE_MONITOR_BOARD=simulated", "REMOTE_MONITOR_SEED=7", "SAMPLE_INTERVAL=0.1",
		"INPUT_2_NAME=Door", "INPUT_2_TYPE=Contact Detector", "INPUT_2_VALUE_NORMAL=0",
		"INPUT_1_NAME=Hall", "INPUT_1_TYPE=Motion Detector", "INPUT_1_LOCATION=Ground floor", "INPUT_1_VALUE_NORMAL= 29 ", "INPUT_1_VALUE_TAMPER=78%",
		"INPUT_10_VALUE_NORMAL=50", "INPUT_3_NAME=", "INPUT_TAMPER_LABEL=Sabotage",
		"OUTPUT_1_TYPE=Siren", "RABBITMQ_EXCHANGE=home_automation", "INPUT_TAMPER_VALUE=9",
	}, "host")
	if err != nil {
		t.Fatal(err)
	}
	tamper := 78
	want := config.Config{
		Device: "calm-otter", Board: config.Simulated, Seed: 7, Interval: 100 * time.Millisecond, Heartbeat: time.Minute,
		Inputs: []config.Input{
			{Number: 1, Name: "Hall", Type: "Motion Detector", Location: "Ground floor", Normal: 29, Tamper: &tamper, TamperLabel: "Sabotage"},
			{Number: 2, Name: "Door", Type: "Contact Detector", TamperLabel: "Sabotage"},
			{Number: 10, Name: "Input 10", Type: "Detector", Normal: 50, TamperLabel: "Sabotage"},
		},
		Unused: []string{"INPUT_TAMPER_VALUE", "OUTPUT_1_TYPE", "RABBITMQ_EXCHANGE"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if key := got.Inputs[0].Key(); key != "Hall Motion Detector (Ground floor)" {
		t.Errorf("the key is %q", key)
	}
}

func TestNothingSetIsNoBoardAndNoInputs(t *testing.T) {
	got, err := config.Parse(nil, "host")
	if err != nil {
		t.Fatal(err)
	}
	if got.Board != config.NoBoard || got.Inputs != nil || got.Device != "host" || got.Interval != 50*time.Millisecond || got.Samples {
		t.Errorf("got %+v", got)
	}
}

func TestASimulatedBoardWithoutInputsHasSampleZones(t *testing.T) {
	got, err := config.Parse([]string{"REMOTE_MONITOR_BOARD=simulated"}, "host")
	if err != nil {
		t.Fatal(err)
	}
	if !got.Samples || len(got.Inputs) != 3 {
		t.Errorf("got %+v", got)
	}
}

func TestTwoDevicesSeeDifferentPeopleAndOneSeesTheSameAgain(t *testing.T) {
	seed := func(uuid string) uint64 {
		c, err := config.Parse([]string{"BALENA_DEVICE_UUID=" + uuid}, "host")
		if err != nil {
			t.Fatal(err)
		}
		return c.Seed
	}
	if first, again := seed("a"), seed("a"); first != again || first == seed("b") {
		t.Error("the seed does not follow the device")
	}
}

func TestWhatMakesNoSenseIsRefusedWithWhatToWrite(t *testing.T) {
	for _, c := range []struct{ env, want string }{
		{"REMOTE_MONITOR_BOARD=simulatd", "did you mean simulated?"},
		{"REMOTE_MONITOR_BOARD=adc-pi", "this version has: simulated"},
		{"REMOTE_MONITOR_BORD=simulated", "did you mean REMOTE_MONITOR_BOARD?"},
		{"REMOTE_MONITOR_SEED=-1", "want a whole number"},
		{"SAMPLE_INTERVAL=fast", "want a time such as 50ms"},
		{"SAMPLE_INTERVAL=0", "want a time from 10ms to 10s"},
		{"SAMPLE_INTERVAL=NaN", "want a time from 10ms to 10s"},
		{"SAMPLE_INTERVAL=1e300", "want a time from 10ms to 10s"},
		{"SAMPLE_INTERVALS=1", "did you mean SAMPLE_INTERVAL?"},
		{"INPUT_1_NAM=Hall", "did you mean INPUT_1_NAME?"},
		{"INPUT_1_VALUE_NORMAL2=Hall", "did you mean INPUT_1_VALUE_NORMAL?"},
		{"INPUT_17_NAME=Hall", "inputs are INPUT_1_NAME to INPUT_16_NAME"},
		{"INPUT_01_NAME=Hall", "no such variable"},
		{"INPUT_0_NAME=Hall", "no such variable"},
		{"INPUT_1_NAME=Hall", "INPUT_1_VALUE_NORMAL is not set"},
		{"INPUT_1_VALUE_NORMAL=1.5", "want a whole percentage of the supply"},
		{"INPUT_1_VALUE_NORMAL=101", "0 to 100"},
		{"INPUT_1_VALUE_NORMAL=50,INPUT_1_VALUE_TAMPER=-1", "INPUT_1_VALUE_TAMPER=-1"},
		{"INPUT_1_VALUE_NORMAL=50,INPUT_1_VALUE_TAMPER=60", "would never be seen"},
		{"INPUT_1_VALUE_NORMAL=50,INPUT_1_NAME=A,INPUT_2_VALUE_NORMAL=50,INPUT_2_NAME=A", "inputs 1 and 2 are both"},
	} {
		_, err := config.Parse(strings.Split(c.env, ","), "host")
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), strings.SplitN(c.env, "=", 2)[0][:6]) {
			t.Errorf("%s: got %v, want it to say %q", c.env, err, c.want)
		}
	}
}

func TestAllThatIsWrongIsSaidAtOnce(t *testing.T) {
	_, err := config.Parse([]string{"SAMPLE_INTERVAL=x", "REMOTE_MONITOR_SEED=x", "INPUT_1_NAME=Hall"}, "host")
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("got %v, want three lines", err)
	}
}

func FuzzAnyEnvironmentIsReadOrRefused(f *testing.F) {
	f.Add("INPUT_1_NAME", "Hall")
	f.Add("INPUT_1_VALUE_NORMAL", "50")
	f.Add("SAMPLE_INTERVAL", "-1e400")
	f.Add("REMOTE_MONITOR_", "\xff")
	f.Fuzz(func(t *testing.T, k, v string) {
		c, err := config.Parse([]string{k + "=" + v, "INPUT_2_VALUE_NORMAL=29"}, "host")
		if err == nil && (c.Interval < 10*time.Millisecond || len(c.Inputs) == 0 || c.Inputs[0].Normal < 0 || c.Inputs[0].Normal > 100) {
			t.Errorf("accepted %+v", c)
		}
	})
}
