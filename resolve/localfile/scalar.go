package localfile

import (
	"encoding/base64"
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
	base := 0 // as the digits say: 0b, 0x or 0 before them
	if strings.Contains(digits, ":") {
		base = 10
	}
	n := new(big.Int)
	for part := range strings.SplitSeq(digits, ":") {
		group, ok := new(big.Int).SetString(part, base)
		if !ok {
			return nil, false
		}
		n.Add(n.Mul(n, big.NewInt(60)), group)
	}
	decimal := n.Mul(n, big.NewInt(int64(sign))).String()
	// Python does not read longer ones, or reads them in other bases and cannot write them.
	return python.Integer(decimal), len(strings.TrimPrefix(decimal, "-")) <= python.MaxDigits
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
	date, clock := strings.Join(m[1:4], "-"), "0:0:0"
	if m[4] != "" {
		clock = strings.Join(m[4:7], ":")
	}
	_, err := time.Parse("2006-1-2 15:4:5", date+" "+clock)
	hours, _ := strconv.Atoi(m[7])
	minutes, _ := strconv.Atoi(m[8])
	return err == nil && m[1] != "0000" && hours*60+minutes < 24*60
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
			return "1"
		}
		return "0"
	case float64:
		if k == math.Trunc(k) && !math.IsInf(k, 0) {
			n, _ := big.NewFloat(k).Int(nil)
			return n.String()
		}
	}
	return python.DumpJSON(key)
}
