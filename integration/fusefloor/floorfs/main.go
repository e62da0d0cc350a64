// Command floorfs mounts the smallest useful FUSE filesystem: a flat directory
// of read-only files in memory, named c0.json, c1.json and so on. It is mounted
// and answers as connfs does, uid check included, and does nothing else, so what
// it costs is what the kernel and go-fuse cost. connfs is measured against it.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// capAsyncDIO is FUSE_ASYNC_DIO: without it, io_uring readers of a direct I/O
// file get repeated data.
const capAsyncDIO = 1 << 15

type config struct {
	files        int
	body         []byte
	entryTimeout time.Duration
	attrTimeout  time.Duration
	allowed      map[uint32]bool // nil: everybody
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("floorfs: ")
	var cfg config
	mount := flag.String("mount", "", "mountpoint")
	bytes := flag.Int("bytes", 600, "size of each file")
	bodyFile := flag.String("body", "", "take the content of every file from this `file` instead")
	allow := flag.String("allow-uids", "",
		"comma-separated uids that may open and read; empty: all")
	flag.IntVar(&cfg.files, "files", 1, "number of files")
	flag.DurationVar(&cfg.entryTimeout, "entry-timeout", time.Minute,
		"how long the kernel may keep directory entries")
	flag.DurationVar(&cfg.attrTimeout, "attr-timeout", 0, "how long the kernel may keep attributes")
	flag.Parse()
	if *mount == "" || flag.NArg() != 0 {
		flag.Usage()
		os.Exit(2)
	}
	var err error
	if cfg.allowed, err = parseUIDs(*allow); err != nil {
		log.Fatal(err)
	}
	cfg.body = []byte(strings.Repeat("0123456789abcdef", *bytes/16+1)[:*bytes])
	if *bodyFile != "" {
		if cfg.body, err = os.ReadFile(*bodyFile); err != nil {
			log.Fatal(err)
		}
	}

	// Everything that makes a read cheaper and is safe; connfs mounts alike.
	server, err := fuse.NewServer(newFloor(cfg), *mount, &fuse.MountOptions{
		FsName: "floorfs", Name: "floorfs",
		AllowOther:        true,
		DirectMountStrict: true,
		DirectMountFlags: syscall.MS_RDONLY | syscall.MS_NOSUID | syscall.MS_NODEV |
			syscall.MS_NOEXEC,
		DisableXAttrs:     true,
		DisableSplice:     true,
		ExtraCapabilities: capAsyncDIO,
	})
	if err != nil {
		log.Fatalf("mounting %s: %v", *mount, err)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		for range stop {
			if err := server.Unmount(); err != nil {
				log.Printf("unmounting: %v", err)
			}
		}
	}()
	server.Serve()
}

// parseUIDs returns the set of uids in a comma-separated list, nil for "".
func parseUIDs(list string) (map[uint32]bool, error) {
	if list == "" {
		return nil, nil
	}
	uids := make(map[uint32]bool)
	for s := range strings.SplitSeq(list, ",") {
		uid, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("-allow-uids: %q is not a uid", s)
		}
		uids[uint32(uid)] = true
	}
	return uids, nil
}
