package store

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheColumnsOfAViolationAreReadInEveryLanguage(t *testing.T) {
	for detail, want := range map[string][]string{
		"Key (organization, name)=(1, porch) already exists.":            {"organization", "name"},
		"Schlüssel »(organization, name)=(1, a)=(b)« existiert bereits.": {"organization", "name"},
		"キー (uuid)=(x) はすでに存在します。":                                       {"uuid"},
		"":                    nil,
		"(":                   nil,
		"no columns (at all)": nil,
	} {
		if got := keyColumns(detail); !cmp.Equal(got, want) {
			t.Errorf("%s: %q", detail, got)
		}
	}
}
