package metastore

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/connfs/connfs/internal/network"
)

func TestOneCallerLeavesAConnectionToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{}
		alice := network.ForCaller(t.Context(), 1)
		var leaves []func()
		for range mostOfOne {
			leave, err := g.enter(alice)
			if err != nil {
				t.Fatal(err)
			}
			leaves = append(leaves, leave)
		}
		waits, cancel := context.WithCancel(alice)
		waits, request := network.Follow(waits)
		for range 20 {
			go func() {
				if _, err := g.enter(waits); err == nil {
					t.Error("one caller got more places than there are for one")
				}
			}()
		}
		synctest.Wait()
		if !request.Waits() {
			t.Error("a request that waits for a place is not known to")
		}
		leave, err := g.enter(network.ForCaller(t.Context(), 2))
		if err != nil {
			t.Fatal(err)
		}
		leave()
		cancel()
		synctest.Wait()
		for _, leave := range leaves {
			leave()
		}
		if g.used != 0 || len(g.held) != 0 || len(g.waiting) != 0 {
			t.Errorf("left over: %d used, %v held, %d waiting", g.used, g.held, len(g.waiting))
		}
	})
}

func TestACallerWithFewerConnectionsComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{}
		var leaves []func()
		enter := func(caller uint32, entered *[]uint32) {
			leave, err := g.enter(network.ForCaller(t.Context(), caller))
			if err != nil {
				t.Error(err)
				return
			}
			leaves = append(leaves, leave)
			*entered = append(*entered, caller)
		}
		var order []uint32
		for caller := range uint32(maxConns) {
			enter(1+caller%2, &order)
		}
		order = nil
		for _, caller := range []uint32{1, 1, 2, 3} {
			go enter(caller, &order)
			synctest.Wait()
		}
		leaves[1]() // one of caller 2's
		synctest.Wait()
		if len(order) != 1 || order[0] != 3 {
			t.Errorf("the place went to %v, and not to 3, who had none", order)
		}
		for len(leaves) > 0 {
			next := leaves[0]
			leaves = leaves[1:]
			next()
			synctest.Wait()
		}
	})
}
