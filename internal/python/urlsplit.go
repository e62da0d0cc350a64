package python

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/text/unicode/norm"
)

// SplitResult is what [URLSplit] makes of a URL, without the fragment.
type SplitResult struct {
	Scheme, Netloc, Path, Query string
}

// URLSplit is Python's urllib.parse.urlsplit, as of 3.11.4. Its error shows
// nothing of the URL.
func URLSplit(url string) (p SplitResult, err error) {
	url = strings.TrimLeftFunc(url, func(r rune) bool { return r <= ' ' })
	url = strings.NewReplacer("\t", "", "\r", "", "\n", "").Replace(url)
	if before, after, ok := strings.Cut(url, ":"); ok && isScheme(before) {
		p.Scheme, url = strings.ToLower(before), after
	}
	if rest, ok := strings.CutPrefix(url, "//"); ok {
		end := strings.IndexAny(rest, "/?#")
		if end < 0 {
			end = len(rest)
		}
		p.Netloc, url = rest[:end], rest[end:]
		if err := checkBrackets(p.Netloc); err != nil {
			return SplitResult{}, err
		}
	}
	url, _, _ = strings.Cut(url, "#")
	p.Path, p.Query, _ = strings.Cut(url, "?")
	return p, checkNormalized(p.Netloc)
}

// isScheme reports whether s is a letter, and after it letters, digits, "+", "-" and ".".
func isScheme(s string) bool {
	if s == "" || !isLetter(s[0]) {
		return false
	}
	for _, c := range []byte(s) {
		if !isLetter(c) && (c < '0' || c > '9') && !strings.ContainsRune("+-.", rune(c)) {
			return false
		}
	}
	return true
}

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

// checkBrackets refuses a netloc with only one of "[" and "]", or with anything but an
// address between the first "[" and the next "]". It does not matter where they are: the
// password of a connection can hold them too.
func checkBrackets(netloc string) error {
	if strings.Contains(netloc, "[") != strings.Contains(netloc, "]") {
		return errors.New("one of [ and ] is missing")
	}
	_, rest, ok := strings.Cut(netloc, "[")
	if !ok {
		return nil
	}
	address, _, _ := strings.Cut(rest, "]")
	if strings.HasPrefix(address, "v") {
		if !isFutureAddress(address) {
			return errors.New("the text in brackets is not an IPvFuture address")
		}
		return nil
	}
	// Python takes any zone but one that holds another "%".
	ip, err := netip.ParseAddr(address)
	if err != nil || ip.Is4() || strings.Count(address, "%") > 1 {
		return errors.New("the text in brackets is not an IPv6 address")
	}
	return nil
}

// isFutureAddress reports whether s, which begins with "v", goes on with hex digits, "." and
// something more.
func isFutureAddress(s string) bool {
	version, rest, _ := strings.Cut(s[1:], ".")
	return version != "" && rest != "" && strings.Trim(version, "0123456789abcdefABCDEF") == ""
}

// checkNormalized refuses a netloc in which Unicode's compatibility form makes a delimiter
// of a character, as it makes "/" of "／".
func checkNormalized(netloc string) error {
	if isASCII(netloc) {
		return nil
	}
	rest := strings.NewReplacer("@", "", ":", "", "#", "", "?", "").Replace(netloc)
	if strings.ContainsAny(norm.NFKC.String(rest), "/?#@:") {
		return errors.New(
			"the host, login or password holds a character that normalises to a delimiter")
	}
	return nil
}

// Userinfo returns login and password: the text before the last "@", split at
// its first ":". Both are nil if there is no "@".
func (p SplitResult) Userinfo() (login, password *string) {
	at := strings.LastIndexByte(p.Netloc, '@')
	if at < 0 {
		return nil, nil
	}
	name, secret, ok := strings.Cut(p.Netloc[:at], ":")
	if !ok {
		return &name, nil
	}
	return &name, &secret
}

// hostinfo returns the text after the last "@": the host, without its brackets, and the
// port.
func (p SplitResult) hostinfo() (host, port string) {
	info := p.Netloc[strings.LastIndexByte(p.Netloc, '@')+1:]
	if _, bracketed, ok := strings.Cut(info, "["); ok {
		host, rest, _ := strings.Cut(bracketed, "]")
		_, port, _ := strings.Cut(rest, ":")
		return host, port
	}
	host, port, _ = strings.Cut(info, ":")
	return host, port
}

// Hostname returns the host in lower case, except from its first "%" on.
func (p SplitResult) Hostname() string {
	host, _ := p.hostinfo()
	percent := strings.IndexByte(host, '%')
	if percent < 0 {
		percent = len(host)
	}
	return Lower(host[:percent]) + host[percent:]
}

// Port returns the port, or nil if there is none. Its error shows nothing of the text.
func (p SplitResult) Port() (*int64, error) {
	_, text := p.hostinfo()
	switch {
	case text == "":
		return nil, nil
	case strings.Trim(text, "0123456789") != "" || len(text) > MaxDigits:
		return nil, errors.New("the port is not an integer")
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n > 65535 {
		return nil, errors.New("the port is beyond 65535")
	}
	return &n, nil
}
