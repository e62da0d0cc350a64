// Package fs is the FUSE tree: one directory with one read-only file for each
// connection. It turns the kernel's requests into calls of a [Provider], and the
// provider's answers into bytes and error numbers. It decides nothing itself.
//
// It uses go-fuse's raw API. LOOKUP answers every well-formed name with the same
// constant entry, for every caller: the kernel shares directory entries among all
// users, so an entry that depended on the caller would show, or take away, what
// belongs to another user. The kernel asks GETATTR, ACCESS, OPEN and READ each time,
// and the provider decides each time.
//
// fs.go has the provider and the attributes, names.go the node ids, listing.go the order in
// which the directory is read, dir.go what happens to the directory (LOOKUP, READDIR, GETATTR
// and all attempts to write), file.go the reading of a file, and errno.go the error numbers.
//
// The kernel also keeps the attributes that it was last given with the shared node. So the
// answer to GETATTR, which names its caller as the owner, must not stay there; see
// [tree.GetAttr].
//
// No plaintext is kept here. A handle stands for the version of the content that was opened
// (handles.go), and the bytes of a reply lie in the provider's locked memory while the kernel
// copies them.
package fs

import (
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/connfs/connfs/conn"
)

// Provider decides what the tree shows, and has the content. Its errors are *conn.Error;
// [Errno] turns them into error numbers. All methods may be called concurrently. Those with
// a cancel channel return soon after it is closed, with an error of kind Interrupted.
type Provider interface {
	// ReadsAnything reports whether this caller may read anything at all.
	ReadsAnything(c conn.Caller) bool
	// MayRead reports whether this caller may read id. It asks no backend.
	MayRead(c conn.Caller, id string) bool
	// Stat returns the size of the content in bytes, or -1 while it is not known, and when it
	// last changed, as far as is known. It never asks a backend.
	Stat(c conn.Caller, id string) (size int, changed time.Time, err error)
	// Open authorises the caller and returns the version of the content, which is never 0.
	Open(cancel <-chan struct{}, c conn.Caller, id string) (version uint32, err error)
	// Read authorises the caller and returns up to n bytes of that version, or of the present
	// one where version is 0, from offset off, which stay valid until release is called. At
	// the end of the content there are no bytes, and release is nil. served is the version that
	// they are of.
	Read(
		cancel <-chan struct{}, c conn.Caller, id string, version uint32, off, n int,
	) (data [][]byte, served uint32, release func(), err error)
	// Refuse records a read that the tree refused, and returns the error to give.
	Refuse(c conn.Caller, id string, err error) error
	// Pace may hold back a request that fails with err, if the caller fails too often.
	Pace(cancel <-chan struct{}, c conn.Caller, err error)
	// List returns all ids that are known, sorted, and asks the backends first if what is
	// known is old. It does not matter who may read them, except that a caller who may read
	// nothing gets nothing. The slice is shared and must not be changed; as long as nothing
	// changes it is the same one.
	List(cancel <-chan struct{}, c conn.Caller) ([]string, error)
	// Listed is List for what is known now. It waits for nobody.
	Listed(c conn.Caller) []string
}

const (
	// unknownSize is shown while the size is not known: never 0, which many tools
	// take for an empty file and do not read.
	unknownSize = 4096
	// entrySize is the size in entries, which are the same for every content. No content is
	// larger: the kernel itself ends an asynchronous read there.
	entrySize = 1 << 20
	// entryTimeout is how long the kernel keeps an entry. Entries are constant.
	entryTimeout = 60 * time.Second
	// sharedAttrTimeout is how long it keeps attributes where they may be shared
	// with other users.
	sharedAttrTimeout = time.Second
	// nameMax is the longest file name in bytes.
	nameMax = 1024
)

// Config describes a tree.
type Config struct {
	Provider Provider
	Mount    string // the mountpoint, for the audit
	// ShareNames lets the kernel keep attributes for a second, which makes `ls -l`
	// of many files fast and shows their sizes to other users.
	ShareNames bool
}

// tree implements fuse.RawFileSystem.
type tree struct {
	fuse.RawFileSystem // answers ENOSYS to requests that the tree has no method for
	Config
	names    *names
	listings listings
	handles  handles
	started  time.Time
	kernel   notifier // nil in tests
}

// notifier tells the kernel that what it knows of a node is out of date.
type notifier interface {
	InodeNotify(node uint64, off, length int64) fuse.Status
}

var _ fuse.RawFileSystem = (*tree)(nil)

// New returns the tree for fuse.NewServer.
func New(cfg Config) fuse.RawFileSystem {
	return &tree{
		RawFileSystem: fuse.NewDefaultRawFileSystem(), Config: cfg, names: newNames(),
		started: time.Now(),
	}
}

// Options sets what the tree needs in any mount.
func Options(o *fuse.MountOptions) {
	o.FsName, o.Name = "connfs", "connfs"
	o.DisableXAttrs = true
	// With splice every READ of data in memory would cost three more system calls.
	o.DisableSplice = true
	// Without ASYNC_DIO an io_uring reader gets the content several times over.
	o.ExtraCapabilities |= fuse.CAP_ASYNC_DIO | fuse.CAP_READDIRPLUS_AUTO
	// The kernel must ask every OPEN, since OPEN authorises; and an id-mapped mount would
	// report every caller as uid -1.
	o.DisabledCapabilities |= fuse.CAP_NO_OPEN_SUPPORT | fuse.CAP_ALLOW_IDMAP | fuse.CAP_PASSTHROUGH
}

// Init is called before the first request but FUSE's own INIT.
func (t *tree) Init(s *fuse.Server) { t.kernel = s }

func (t *tree) String() string { return "connfs" }

// Forget is told which nodes the kernel gives back.
func (t *tree) Forget(node, lookups uint64) { t.names.forget(node, lookups) }

func (t *tree) caller(h *fuse.InHeader) conn.Caller {
	return conn.Caller{UID: h.Uid, GID: h.Gid, PID: h.Pid, Unique: h.Unique, Mount: t.Mount}
}

// refuse returns the status for err. It may hold the request back first.
func (t *tree) refuse(cancel <-chan struct{}, c conn.Caller, err error) fuse.Status {
	t.Provider.Pace(cancel, c, err)
	return status(err)
}

func status(err error) fuse.Status { return fuse.Status(Errno(err)) }

// StatFs tells everybody the same, and nothing about the content.
func (t *tree) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	out.Bsize, out.Frsize, out.NameLen = 4096, 4096, nameMax
	return fuse.OK
}

func (t *tree) attrTimeout() time.Duration {
	if t.ShareNames {
		return sharedAttrTimeout
	}
	return 0
}

func (t *tree) rootAttr(a *fuse.Attr) {
	a.Ino, a.Mode, a.Nlink, a.Blksize = fuse.FUSE_ROOT_ID, syscall.S_IFDIR|0o555, 2, 4096
	setTimes(a, t.started)
}

// entryAttr fills in the attributes in an entry: the same for every content and caller, unless
// users may see each other's attributes.
func (t *tree) entryAttr(node uint64, a *fuse.Attr) {
	a.Ino, a.Mode, a.Nlink, a.Blksize = inode(node), syscall.S_IFREG|0o400, 1, 4096
	setSize(a, entrySize)
	setTimes(a, t.started)
}

// fileAttr fills in the attributes of a file whose content has size bytes, -1 for unknown, and
// last changed at the given time.
func (t *tree) fileAttr(node uint64, size int, changed time.Time, a *fuse.Attr) {
	t.entryAttr(node, a)
	if size < 0 {
		size = unknownSize
	}
	setSize(a, size)
	setTimes(a, changed)
}

func setSize(a *fuse.Attr, size int) { a.Size, a.Blocks = uint64(size), uint64(size+511)/512 }

// inode returns the inode number that programs see for a node: its id folded to 32 bits.
// stat(2) and readdir(3) of a 32-bit program fail with EOVERFLOW for larger numbers. It can
// be the same for two files, and is never the root's.
func inode(node uint64) uint64 {
	return max(uint64(uint32(node)^uint32(node>>32)), firstFileNode)
}

func setTimes(a *fuse.Attr, at time.Time) { a.SetTimes(&at, &at, &at) }
