package python

import "errors"

var errBase64 = errors.New("not base64: a character or padding is missing")

// DecodeBase64 decodes as Python's base64.urlsafe_b64decode does: both alphabets count,
// bytes of neither are skipped, the end must be padded, and what follows a
// complete padding is ignored. Go's decoders are stricter.
func DecodeBase64(text string) ([]byte, error) {
	out := make([]byte, 0, len(text)/4*3+3)
	var group uint32
	var digits, pads int
	for i := range len(text) {
		c := text[i]
		if c == '=' {
			if digits >= 2 {
				if pads++; digits+pads >= 4 {
					return out, nil
				}
			}
			continue
		}
		v := base64Value(c)
		if v < 0 {
			continue
		}
		pads = 0
		group = group<<6 | uint32(v)
		switch digits++; digits {
		case 2:
			out = append(out, byte(group>>4))
		case 3:
			out = append(out, byte(group>>2))
		case 4:
			out = append(out, byte(group))
			digits = 0
		}
	}
	if digits != 0 {
		return nil, errBase64
	}
	return out, nil
}

func base64Value(c byte) int {
	switch {
	case 'A' <= c && c <= 'Z':
		return int(c - 'A')
	case 'a' <= c && c <= 'z':
		return int(c-'a') + 26
	case '0' <= c && c <= '9':
		return int(c-'0') + 52
	case c == '+' || c == '-':
		return 62
	case c == '/' || c == '_':
		return 63
	}
	return -1
}
