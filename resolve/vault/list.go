package vault

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/connfs/connfs/conn"
	"github.com/connfs/connfs/resolve/backend"
)

// Bounds of a listing: of Vault's folders, and of the calls that are under way at once.
const (
	maxFolders = 10_000
	maxDepth   = 32
	listers    = 8
)

// List implements [backend.Lister]. It names every secret of the folders, also one whose newest
// version is deleted: Vault tells that only of single ones.
func (v *Store) List(ctx context.Context) ([]string, error) {
	if v.mount == "" && len(v.bases) > 0 {
		return nil, conn.Errorf(conn.Failed, "",
			"mount_point is null, so ids name mounts, and Vault cannot be asked for all of them")
	}
	l := &listing{v: v, limit: make(chan struct{}, listers)}
	l.group, ctx = errgroup.WithContext(ctx)
	for _, base := range v.bases {
		l.start(ctx, base, "", 0)
	}
	if err := l.group.Wait(); err != nil {
		return nil, err
	}
	slices.Sort(l.ids)
	return slices.Compact(l.ids), nil
}

// listing is a listing under way.
type listing struct {
	v     *Store
	group *errgroup.Group
	limit chan struct{} // of calls; a folder starts others before it is done

	mu      sync.Mutex
	folders int
	ids     []string
}

// start lists a folder within a base, and what is in it.
func (l *listing) start(ctx context.Context, base, folder string, depth int) {
	l.group.Go(func() error {
		l.limit <- struct{}{}
		keys, err := l.keys(ctx, base, folder, depth)
		<-l.limit
		if err != nil {
			return err
		}
		for _, key := range keys {
			name, isFolder := strings.CutSuffix(key, "/")
			id := folder + name
			if backend.CheckPathID(id) != nil {
				continue
			}
			if !isFolder {
				l.found(id)
			} else if !l.v.flat {
				l.start(ctx, base, folder+key, depth+1)
			}
		}
		return nil
	})
}

// keys returns what one folder holds; nothing where there is no such folder.
func (l *listing) keys(ctx context.Context, base, folder string, depth int) ([]string, error) {
	l.mu.Lock()
	l.folders++
	over := l.folders > maxFolders || depth > maxDepth
	l.mu.Unlock()
	if over {
		return nil, conn.Errorf(conn.Failed, "",
			"Vault has over %d folders there, or %d within one another", maxFolders, maxDepth)
	}
	var answer struct {
		Data struct {
			Keys []string `json:"keys"`
		} `json:"data"`
	}
	path := l.v.path(l.v.mount, "metadata", base, strings.TrimSuffix(folder, "/"))
	err := l.v.read(ctx, l.v.mount, path, url.Values{"list": {"true"}}, &answer)
	if err != nil && conn.KindOf(err) != conn.Absent {
		return nil, err
	}
	backend.CountCall(ctx)
	return answer.Data.Keys, nil
}

func (l *listing) found(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ids = append(l.ids, id)
}
