package auth

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dunlin/dunlin/internal/fault"
)

// commonWords are what the passwords that everybody tries first are made of, in one word.
var commonWords = strings.Fields(`
	password passwords passwort passwd passphrase motdepasse contrasena senha parola secret geheim
	admin administrator root user guest login test tester testing demo default changeme changeit letmein welcome access
	master system server manager operator superuser
	iloveyou loveyou trustno sunshine princess dragon monkey football baseball basketball superman batman starwars pokemon
	shadow michael jordan jennifer charlie whatever computer internet freedom hello computerhello
	qwerty qwertz azerty qwertyui qwertyuiop qwertzuiop azertyuiop asdf asdfgh asdfghjkl zxcvbn zxcvbnm yxcvbnm qazwsx qazwsxedc
	abc abcd abcdef abcdefgh abcdefghij
	raspberry raspberrypi raspbian linux ubuntu debian docker homeassistant balena balenacloud dunlin pi`)

// rows are runs of keys and letters that are no passwords, however long.
var rows = []string{"abcdefghijklmnopqrstuvwxyz", "01234567890123456789", "qwertyuiop", "qwertzuiop", "azertyuiop", "asdfghjkl", "zxcvbnm", "yxcvbnm"}

// checkPassword refuses a password that is short, or that is guessed first by who knows the user's name and email.
// What makes one good is length; there is no rule about kinds of characters.
func checkPassword(password, username, email string) error {
	bad := func(why string) error {
		return fault.New(fault.Invalid, why).WithHint("use at least 10 characters; a few words that do not belong together are easy to keep in mind")
	}
	switch {
	case !utf8.ValidString(password):
		return bad("the password is not UTF-8 text")
	case utf8.RuneCountInString(password) < minPassword:
		return bad("the password is too short")
	case len(password) > maxPassword:
		return fault.Newf(fault.Invalid, "the password is over %d bytes", maxPassword)
	}
	lower := strings.ToLower(password)
	if repeats(lower) || inRow(lower) {
		return bad("the password repeats itself or follows the keys")
	}
	local, domain, _ := strings.Cut(email, "@")
	core := core(lower)
	if core == "" {
		if utf8.RuneCountInString(password) < 16 {
			return bad("the password has no letters")
		}
		return nil
	}
	for _, known := range append([]string{username, local, domain, email}, commonWords...) {
		if known = letters(known); known != "" && strings.ReplaceAll(core, known, "") == "" {
			return bad("the password is among the first that others would try")
		}
	}
	return nil
}

// repeats reports whether text is a short piece again and again, or of very few characters.
func repeats(text string) bool {
	seen := map[rune]bool{}
	for _, r := range text {
		seen[r] = true
	}
	if len(seen) < 4 {
		return true
	}
	for n := 1; n <= 5 && 2*n <= len(text); n++ {
		if strings.Repeat(text[:n], len(text)/n+1)[:len(text)] == text {
			return true
		}
	}
	return false
}

// inRow reports whether text follows the alphabet, the digits or a row of keys, forwards or backwards.
func inRow(text string) bool {
	backwards := []rune(text)
	slices.Reverse(backwards)
	for _, row := range rows {
		row = strings.Repeat(row, 1+len(text)/len(row))
		if strings.Contains(row, text) || strings.Contains(row, string(backwards)) {
			return true
		}
	}
	return false
}

// core is the letters of a password without the digits and signs around them, read as people disguise them.
func core(lower string) string {
	return letters(strings.TrimFunc(lower, func(r rune) bool { return !unicode.IsLetter(r) }))
}

var disguises = strings.NewReplacer("0", "o", "1", "i", "3", "e", "4", "a", "@", "a", "$", "s", "5", "s", "7", "t", "!", "i")

func letters(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) {
			return r
		}
		return -1
	}, disguises.Replace(strings.ToLower(text)))
}
