package config_test

import (
	"testing"

	"github.com/dunlin/dunlin/remote-monitor/config"
)

func TestADeviceHasAnIDThatTopicsTake(t *testing.T) {
	for name, want := range map[string]string{"calm-otter": "calm-otter", "Küche, oben": "kueche_oben", "日本": "device", "__": "__", "a/b#+": "a_b"} {
		if got := config.ID(name); got != want {
			t.Errorf("%q is %q, want %q", name, got, want)
		}
	}
}
