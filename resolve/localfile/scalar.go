package localfile

import (
	"encoding/base64"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/connfs/connfs/internal/python"
)

// yamlScalar returns the Python value of a scalar, by its tag; false where PyYAML has
// none, or where only a tag says that the text is of that type.
func yamlScalar(tag, text string) (any, bool) {
	switch tag {
	case "str":
		return text, true
	case "null":
		return nil, true
	case "bool":
		switch strings.ToLower(text) {
		case "yes", "true", "on":
			return true, true
		case "no", "false", "off":
			return false, true
		}
	case "int":
		if yamlInt.MatchString(text) {
			return yamlInteger(text)
		}
	case "float":
		if yamlFloat.MatchString(text) || yamlInt.MatchString(text) {
			return yamlFloating(text)
		}
	case "timestamp":
		return python.Opaque{Truthy: true}, yamlTime(text)
	case "binary":
		data, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
		return python.Opaque{Truthy: len(data) > 0}, err == nil
	}
	return nil, false
}

// yamlInteger reads an integer of YAML 1.1: binary, octal, hexadecimal, decimal or in
// groups of sixty.
func yamlInteger(text string) (any, bool) {
	sign, digits := yamlSign(strings.ReplaceAll(text, "_", ""))
	n, ok := new(big.Int), true
	switch {
	case strings.HasPrefix(digits, "0b"):
		_, ok = n.SetString(digits[2:], 2)
	case strings.HasPrefix(digits, "0x"):
		_, ok = n.SetString(digits[2:], 16)
	case strings.HasPrefix(digits, "0"):
		_, ok = n.SetString(digits, 8)
	default:
		for part := range strings.SplitSeq(digits, ":") {
			group, valid := new(big.Int).SetString(part, 10)
			if !valid || len(part) > python.MaxDigits {
				return nil, false
			}
			n.Add(n.Mul(n, big.NewInt(60)), group)
		}
	}
	if sign < 0 {
		n.Neg(n)
	}
	decimal := n.String()
	// Python reads longer ones in other bases, and cannot write them.
	return python.Integer(decimal), ok && len(strings.TrimPrefix(decimal, "-")) <= python.MaxDigits
}

func yamlFloating(text string) (any, bool) {
	sign, digits := yamlSign(strings.ToLower(strings.ReplaceAll(text, "_", "")))
	switch digits {
	case ".inf":
		return math.Inf(sign), true
	case ".nan":
		return math.NaN(), true
	}
	// From the last group on, as PyYAML adds them up: floats round.
	groups := strings.Split(digits, ":")
	var f float64
	base := 1.0
	for i := len(groups) - 1; i >= 0; i-- {
		group, err := strconv.ParseFloat(groups[i], 64)
		if err != nil && !math.IsInf(group, 0) || strings.ContainsAny(groups[i], "xp") {
			return nil, false
		}
		f += group * base
		base *= 60
	}
	return float64(sign) * f, true
}

func yamlSign(text string) (sign int, digits string) {
	switch {
	case strings.HasPrefix(text, "-"):
		return -1, text[1:]
	case strings.HasPrefix(text, "+"):
		return 1, text[1:]
	}
	return 1, text
}

// yamlTime reports whether Python can make a date of the text.
func yamlTime(text string) bool {
	m := yamlTimestamp.FindStringSubmatch(text)
	if m == nil {
		return false
	}
	var n [9]int
	for i, part := range m[1:] {
		n[i], _ = strconv.Atoi(part)
	}
	year, month, day, hour, minute, second, zone := n[0], n[1], n[2], n[3], n[4], n[5], n[6]*60+n[7]
	date := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	return year > 0 && date.Day() == day && date.Month() == time.Month(month) &&
		hour < 24 && minute < 60 && second < 60 && zone < 24*60
}

// jsonKey returns the key that json.dumps writes for one of [yamlBuilder.key].
func jsonKey(key any) string {
	if text, ok := key.(string); ok {
		return text
	}
	return python.DumpJSON(key)
}

// pythonKey returns one text for all keys that are equal in Python: 1, 1.0 and True.
func pythonKey(key any) string {
	switch k := key.(type) {
	case string:
		return "text " + k
	case bool:
		if k {
			return "number 1"
		}
		return "number 0"
	case python.Integer:
		return "number " + string(k)
	case float64:
		if k == math.Trunc(k) && !math.IsInf(k, 0) {
			n, _ := big.NewFloat(k).Int(nil)
			return "number " + n.String()
		}
		return "number " + python.DumpJSON(k)
	}
	return fmt.Sprint(key)
}
