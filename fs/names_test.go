package fs

import (
	"fmt"
	"testing"
)

// small returns names with room for few ids.
func small(granted, ungranted int) *names {
	n := newNames()
	n.granted.queue = make([]uint64, 0, granted)
	n.ungranted.queue = make([]uint64, 0, ungranted)
	return n
}

func TestNamesForgetsTheOldestAndSparesWhatIsInUse(t *testing.T) {
	n := small(4, 1)
	var nodes []uint64
	for i := range 4 {
		nodes = append(nodes, n.remember(fmt.Sprint(i), true))
	}
	n.opened(nodes[0])
	n.opened(nodes[2])
	n.remember("4", true)
	n.remember("5", true)
	for i, want := range []bool{true, false, true, false} {
		id, ok := n.id(nodes[i])
		if ok != want || ok && id != fmt.Sprint(i) {
			t.Errorf("%d: %q, %v, want %v", i, id, ok, want)
		}
	}
	// An entry is spared only once: if it was not opened since, it goes.
	for i := 6; i < 10; i++ {
		n.remember(fmt.Sprint(i), true)
	}
	if _, ok := n.id(nodes[0]); ok {
		t.Error("an id that nobody uses any more stays for ever")
	}
	if len(n.granted.ids) != 4 || len(n.granted.queue) != 4 {
		t.Errorf("%d ids and %d places, want 4", len(n.granted.ids), len(n.granted.queue))
	}
}

func TestNamesMakesRoomWhereEverythingIsInUse(t *testing.T) {
	n := small(3, 1)
	for i := range 3 {
		n.opened(n.remember(fmt.Sprint(i), true))
	}
	if id, ok := n.id(n.remember("new", true)); !ok || id != "new" {
		t.Errorf("%q, %v", id, ok)
	}
}

func TestInventedNamesPushOutNoGrantedOnes(t *testing.T) {
	n := small(2, 8)
	node := n.remember("granted", true)
	for i := range 1000 {
		n.remember(fmt.Sprintf("invented %d", i), false)
	}
	if id, ok := n.id(node); !ok || id != "granted" {
		t.Error("forgotten")
	}
	if len(n.ungranted.ids) != 8 {
		t.Errorf("%d invented names are kept", len(n.ungranted.ids))
	}
}

func TestRememberingAgainTakesNoMoreRoom(t *testing.T) {
	n := small(2, 2)
	a := n.remember("a", true)
	for range 10 {
		if n.remember("b", true) == a {
			t.Fatal("one node for two ids")
		}
	}
	if id, ok := n.id(a); !ok || id != "a" {
		t.Error("an id was forgotten for one that was there already")
	}
	n.opened(12345) // of a node that is not known: nothing
}
