package fs

import (
	"fmt"
	"strings"
	"testing"
)

// small returns names with room for so many short ones.
func small(readers, others int) *names {
	n := newNames()
	n.readers.limit, n.others.limit = room(readers), room(others)
	return n
}

// room is what one user needs for so many names of a length of 3.
func room(names int) int { return names*(holdBytes+3) + 2*placeBytes }

// look has uid look up ids of which it may read all, and returns their nodes.
func look(n *names, uid uint32, reads bool, ids ...string) (nodes []uint64) {
	for _, id := range ids {
		node := n.node(id)
		n.lookedUp(node, id, uid, reads)
		nodes = append(nodes, node)
	}
	return nodes
}

// wantKnown checks which nodes are known, and with which ids.
func wantKnown(t *testing.T, n *names, nodes []uint64, ids string, known ...bool) {
	t.Helper()
	for i, id := range strings.Fields(ids) {
		if got, ok := n.id(nodes[i]); ok != known[i] || ok && got != id {
			t.Errorf("%s: %q, %v, want %v", id, got, ok, known[i])
		}
	}
	// Whatever happened, the books are right.
	held := 0
	for _, c := range []*class{&n.readers, &n.others} {
		bytes := 0
		for uid, p := range c.places {
			own := placeBytes
			for node, h := range p.holds {
				own += h.bytes()
				held++
				if n.byNode[node] != h.name || h.uid != uid {
					t.Errorf("%q is held wrongly", h.name.id)
				}
			}
			if own != p.bytes || len(p.holds) != p.queue.Len() || len(p.holds) == 0 {
				t.Errorf("the place of %d: %d bytes, counted %d, %d names, %d queued", uid, own,
					p.bytes, len(p.holds), p.queue.Len())
			}
			bytes += own
		}
		if bytes != c.bytes || bytes > c.limit {
			t.Errorf("%d bytes, counted %d, limit %d", bytes, c.bytes, c.limit)
		}
	}
	for _, e := range n.byNode {
		held -= len(e.holds)
		if len(e.holds) == 0 {
			t.Errorf("nobody holds %q", e.id)
		}
	}
	if held != 0 {
		t.Errorf("%d holds more than names say", held)
	}
}

func TestNamesForgetsTheOldestAndSparesWhatIsInUse(t *testing.T) {
	n := small(4, 1)
	nodes := look(n, alice, true, "id0", "id1", "id2", "id3")
	n.opened(nodes[0], "id0", alice)
	n.opened(nodes[2], "id2", alice)
	look(n, alice, true, "id4", "id5")
	wantKnown(t, n, nodes, "id0 id1 id2 id3", true, false, true, false)
	// A name is spared only once: if it was not opened since, it goes.
	look(n, alice, true, "id6", "id7", "id8", "id9")
	wantKnown(t, n, nodes, "id0 id1 id2 id3", false, false, false, false)
	if len(n.byNode) != 4 {
		t.Errorf("%d names, want 4", len(n.byNode))
	}
}

func TestNamesMakesRoomWhereEverythingIsInUse(t *testing.T) {
	n := small(3, 1)
	for _, id := range []string{"id0", "id1", "id2"} {
		n.opened(look(n, alice, true, id)[0], id, alice)
	}
	wantKnown(t, n, look(n, alice, true, "new"), "new", true)
}

func TestANameIsKeptUntilTheKernelGivesItBack(t *testing.T) {
	n := small(9, 9)
	nodes := look(n, alice, true, "own")
	look(n, bob, false, "own") // the kernel has one node for all
	n.told(nodes[0])
	n.forget(nodes[0], 2)
	wantKnown(t, n, nodes, "own", true)
	n.forget(nodes[0], 1)
	wantKnown(t, n, nodes, "own", false)
	n.forget(nodes[0], 1) // of a node that is not known: nothing
	n.told(nodes[0])

	// It was dropped meanwhile, and counts again from one.
	n = small(1, 1)
	nodes = look(n, alice, true, "own", "two", "own")
	n.forget(nodes[0], 2)
	wantKnown(t, n, nodes, "own", false)
	if len(n.byNode) != 0 || n.readers.bytes != 0 {
		t.Errorf("%d names and %d bytes are left", len(n.byNode), n.readers.bytes)
	}
}

func TestInventedNamesCostNobodyElse(t *testing.T) {
	const strangers, names = 50, 100
	n := small(8, 1000)
	own := look(n, alice, true, "own", "two")
	bound := look(n, root, false, "own", "bnd") // as root does who mounts the file elsewhere
	opened := n.node("opn")
	n.opened(opened, "opn", alice) // of a node that others looked up, or that is listed
	for uid := range uint32(strangers) {
		for i := range names {
			look(n, 5000+uid, false, fmt.Sprintf("a_%d_%d", uid, i), "own", "two")
		}
	}
	for i := range 1000 {
		look(n, bob, true, fmt.Sprintf("b_%d", i))
	}
	wantKnown(t, n, append(own, opened), "own two opn", true, true, true)
	wantKnown(t, n, bound, "own bnd", true, true)
	// Of what she opens she holds more than what they do, and so they have to drop something.
	look(n, alice, true, "id0", "id1", "id2", "id3")
	wantKnown(t, n, look(n, bob, true, "b_9"), "b_9", true)
}

func TestManyUsersShareTheBound(t *testing.T) {
	n := small(1, 10)
	for uid := range uint32(10_000) {
		look(n, uid, false, "x")
		wantKnown(t, n, look(n, uid, false, "abc"), "abc", true)
		if uid == 100 {
			wantKnown(t, n, nil, "")
		}
	}
	wantKnown(t, n, nil, "")
}

// With the bounds as they are, the memory of a flood is bounded, too.
func TestTheBoundsHoldForLongNames(t *testing.T) {
	n := newNames()
	for i := range 20_000 {
		look(n, bob, false, strings.Repeat("x", 1000)+fmt.Sprint(i))
	}
	if kept := len(n.byNode); kept > othersBytes/1000 || kept < 500 {
		t.Errorf("%d names are kept", kept)
	}
	wantKnown(t, n, nil, "")
}

func TestRememberingAgainTakesNoMoreRoom(t *testing.T) {
	n := small(2, 2)
	a := look(n, alice, true, "abc")
	for range 10 {
		if look(n, alice, true, "def")[0] == a[0] {
			t.Fatal("one node for two ids")
		}
	}
	wantKnown(t, n, a, "abc", true)
}
