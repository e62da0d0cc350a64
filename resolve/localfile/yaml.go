package localfile

import (
	"errors"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/internal/python"
)

// parseYAML reads one mapping of connections by id, as PyYAML's safe_load does:
// YAML 1.1, where yes is true, 017 is fifteen and 1:30 is ninety. The library does no
// more than the grammar: what a scalar is, and what mappings mean, is decided here.
//
// Where PyYAML would go on, some things spoil the file, so that no value can change
// silently: !!omap and !!pairs; a key that is a date or bytes; two keys of an extra that
// differ in YAML and not in JSON (1 and "1"); a value inside itself; what only aliases
// make large; and a tag that says what the text is not, as !!int 0xg.
func parseYAML(text string, into *content) error {
	var document yaml.Node
	d := yaml.NewDecoder(strings.NewReader(text))
	if err := d.Decode(&document); err != nil {
		return notYAML(err)
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return conn.Errorf(conn.Invalid, "", "the file does not hold one YAML document")
	}
	b := yamlBuilder{anchors: make(map[string]bool), left: maxYAMLNodes + 2*len(text)}
	if err := b.checkAnchors(&document); err != nil {
		return err
	}
	if len(document.Content) != 1 || b.tag(document.Content[0]) != "map" {
		return conn.Errorf(conn.Invalid, "", "the file does not hold an object")
	}
	members, err := b.members(document.Content[0], 0)
	if err != nil {
		return err
	}
	for _, m := range members {
		id, isText := m.key.(string)
		if err := into.add(id, isText, m.value); err != nil {
			return err
		}
	}
	return nil
}

var errNotYAML = conn.Errorf(conn.Invalid, "", "the file is not YAML")

// yamlLine finds the line in an error of the library, which has no other form for it. The rest of
// its text can hold something of the file.
var yamlLine = regexp.MustCompile(`\bline ([0-9]+)\b`)

// notYAML returns what an error of the grammar is.
func notYAML(err error) error {
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		return conn.Errorf(conn.Invalid, "", "the file is not YAML, at line %s or near it", m[1])
	}
	return errNotYAML
}

// maxYAMLDepth is how deep values may nest; Python gives up before.
const maxYAMLDepth = 1000

// maxYAMLNodes is how many values aliases may add to those that stand in the file.
const maxYAMLNodes = 1 << 20

// yamlBuilder makes Python values of YAML nodes.
type yamlBuilder struct {
	anchors map[string]bool
	left    int // how many bytes of scalars, and nodes, may still be built
}

// member is a key of a mapping, and its value.
type member struct{ key, value any }

// checkAnchors refuses an anchor that stands twice, as PyYAML does: an alias would mean
// the nearer one.
func (b *yamlBuilder) checkAnchors(n *yaml.Node) error {
	if n.Kind != yaml.AliasNode && n.Anchor != "" {
		if b.anchors[n.Anchor] {
			return conn.Errorf(conn.Invalid, "", "line %d: the anchor stands in the file already",
				n.Line)
		}
		b.anchors[n.Anchor] = true
	}
	for _, child := range n.Content {
		if err := b.checkAnchors(child); err != nil {
			return err
		}
	}
	return nil
}

// What an untagged plain scalar is, by its text.
var (
	yamlBool      = regexp.MustCompile(`^(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$`)
	yamlNull      = regexp.MustCompile(`^(?:~|null|Null|NULL|)$`)
	yamlInt       = regexp.MustCompile(`^(?:[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+)$`)
	yamlFloat     = regexp.MustCompile(`^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$`)
	yamlTimestamp = regexp.MustCompile(`^([0-9]{4})-([0-9][0-9]?)-([0-9][0-9]?)(?:(?:[Tt]|[ \t]+)([0-9][0-9]?):([0-9][0-9]):([0-9][0-9])(?:\.[0-9]*)?(?:[ \t]*(?:Z|[-+]([0-9][0-9]?)(?::([0-9][0-9]))?))?)?$`)
	yamlDay       = regexp.MustCompile(`^[0-9]{4}-[0-9]-|^[0-9]{4}-[0-9]{2}-[0-9]$`)
)

// tag returns what a node is: "str", "int", "map", "merge" and the like, or a tag that
// nothing here reads.
func (b *yamlBuilder) tag(n *yaml.Node) string {
	if n.Style&yaml.TaggedStyle != 0 {
		return strings.TrimPrefix(n.Tag, "!!")
	}
	switch n.Kind {
	case yaml.MappingNode:
		return "map"
	case yaml.SequenceNode:
		return "seq"
	}
	if n.Style != 0 {
		return "str"
	}
	switch text := n.Value; {
	case yamlNull.MatchString(text):
		return "null"
	case yamlBool.MatchString(text):
		return "bool"
	case yamlFloat.MatchString(text):
		return "float"
	case yamlInt.MatchString(text):
		return "int"
	case yamlTimestamp.MatchString(text) &&
		(len(text) > len("2000-01-01") || !yamlDay.MatchString(text)):
		return "timestamp"
	case text == "<<":
		return "merge"
	case text == "=":
		return "value"
	}
	return "str"
}

// value builds a node.
func (b *yamlBuilder) value(n *yaml.Node, depth int) (any, error) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if b.left -= 1 + len(n.Value); b.left < 0 || depth > maxYAMLDepth {
		return nil, conn.Errorf(conn.Invalid, "",
			"the file nests too deeply, or its aliases make it too large")
	}
	switch tag := b.tag(n); {
	case tag == "map" && n.Kind == yaml.MappingNode:
		return b.mapping(n, depth)
	case tag == "seq" && n.Kind == yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, child := range n.Content {
			item, err := b.value(child, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, item)
		}
		return list, nil
	case tag == "set" && n.Kind == yaml.MappingNode:
		members, err := b.members(n, depth)
		return python.Opaque{Truthy: len(members) > 0}, err
	case n.Kind == yaml.ScalarNode:
		value, ok := yamlScalar(tag, n.Value)
		if !ok {
			return nil, conn.Errorf(conn.Invalid, "",
				"line %d: connfs does not read this as the type that it has", n.Line)
		}
		return value, nil
	}
	return nil, conn.Errorf(conn.Invalid, "", "line %d: connfs does not read a value of this type",
		n.Line)
}

// mapping builds a mapping as json.dumps would write it: keys that are no text become
// text.
func (b *yamlBuilder) mapping(n *yaml.Node, depth int) (any, error) {
	members, err := b.members(n, depth)
	if err != nil {
		return nil, err
	}
	o := &python.Object{}
	for _, m := range members {
		o.Set(jsonKey(m.key), m.value)
	}
	if len(o.Keys()) < len(members) {
		return nil, conn.Errorf(conn.Invalid, "",
			"line %d: two keys of this mapping are one in JSON", n.Line)
	}
	return o, nil
}

// members builds the members of a mapping, those that merge keys bring first. Of equal
// keys the last value counts, at the place of the first.
func (b *yamlBuilder) members(n *yaml.Node, depth int) ([]member, error) {
	nodes, err := b.flatten(n, depth)
	if err != nil {
		return nil, err
	}
	var members []member
	place := make(map[string]int)
	for i := 0; i < len(nodes); i += 2 {
		key, err := b.key(nodes[i], depth)
		if err != nil {
			return nil, err
		}
		value, err := b.value(nodes[i+1], depth+1)
		if err != nil {
			return nil, err
		}
		same, ok := place[pythonKey(key)]
		if ok {
			members[same].value = value
			continue
		}
		place[pythonKey(key)] = len(members)
		members = append(members, member{key, value})
	}
	return members, nil
}

// key builds a key, which Python must be able to hash.
func (b *yamlBuilder) key(n *yaml.Node, depth int) (any, error) {
	if n.Kind == yaml.ScalarNode && b.tag(n) == "value" {
		return n.Value, nil
	}
	key, err := b.value(n, depth+1)
	if err != nil {
		return nil, err
	}
	switch key.(type) {
	case []any, *python.Object, python.Opaque:
		return nil, conn.Errorf(conn.Invalid, "",
			"line %d: connfs does not read a key of this type", n.Line)
	}
	return key, nil
}

// flatten returns the keys and values of a mapping, alternating, with what its merge keys name
// before its own.
func (b *yamlBuilder) flatten(n *yaml.Node, depth int) ([]*yaml.Node, error) {
	if b.left--; b.left < 0 || depth > maxYAMLDepth {
		return nil, conn.Errorf(conn.Invalid, "",
			"the file nests too deeply, or its aliases make it too large")
	}
	var merged, own []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || b.tag(key) != "merge" {
			own = append(own, key, value)
			continue
		}
		sources := []*yaml.Node{value}
		if target := unalias(value); target.Kind == yaml.SequenceNode {
			sources = nil
			for _, item := range target.Content {
				// The first one counts most, so it comes last.
				sources = append([]*yaml.Node{item}, sources...)
			}
		}
		for _, source := range sources {
			source = unalias(source)
			if source.Kind != yaml.MappingNode {
				return nil, conn.Errorf(conn.Invalid, "", "line %d: only mappings can be merged",
					source.Line)
			}
			nodes, err := b.flatten(source, depth+1)
			if err != nil {
				return nil, err
			}
			if b.left -= len(nodes); b.left < 0 {
				return nil, conn.Errorf(conn.Invalid, "",
					"the file nests too deeply, or its aliases make it too large")
			}
			merged = append(merged, nodes...)
		}
	}
	return append(merged, own...), nil
}

func unalias(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}
