package auth

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/internal/fault"
)

func TestAPasswordThatIsTriedFirstIsRefused(t *testing.T) {
	for _, bad := range []string{
		"", "short", "ninechars", "äöüäöüäöü", strings.Repeat("long and ", 200),
		"aaaaaaaaaaaa", "ababababab", "abcabcabcabc", "12ab12ab12ab", "1234567890", "0987654321", "123456789012345",
		"qwertyuiop", "poiuytrewq", "abcdefghijk", "2024-11-22", "!!!!!!!!!!1",
		"password123", "Password2024!", "P@ssw0rd2024", "passwordpassword", "p4ssw0rd!!", "letmein1234", "changeme!!", "1qazwsxedc", "raspberrypi4",
		"ada-lovelace", "Ada-Lovelace99", "ada.lovelace1", "example.org1", "1example.org1", "ada.lovelace@example.org",
		"bad \xff utf8 bytes",
	} {
		err := checkPassword(bad, "ada-lovelace", "ada.lovelace@example.org")
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%q is taken: %v", bad, err)
		}
		if err != nil && len(bad) > 5 && strings.Contains(fault.Message(err)+fault.Hint(err), bad) {
			t.Errorf("the refusal says the password %q", bad)
		}
	}
	for _, good := range []string{
		"correct horse battery staple", "long enough", "password of ada", "my dog ate 7 socks", "пароль-длинный", "xk7#pQ!mz2", "ten-chars!",
		"8203957710482236", NewPassword(),
	} {
		if err := checkPassword(good, "ada-lovelace", "ada.lovelace@example.org"); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}

func TestAnyTextIsAPasswordOrIsNot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "password")
		err := checkPassword(text, rapid.StringMatching(`[a-z0-9-]{0,8}`).Draw(t, "name"), rapid.String().Draw(t, "email"))
		if err == nil && utf8.RuneCountInString(text) < minPassword {
			t.Fatalf("%q is taken", text)
		}
		if err != nil && !fault.Is(err, fault.Invalid) {
			t.Fatal(err)
		}
	})
}
