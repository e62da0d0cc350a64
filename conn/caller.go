package conn

// Caller is who asks, as the kernel reports it with the request.
type Caller struct {
	UID    uint32 // the file-system uid, as the host numbers it
	GID    uint32
	PID    uint32 // of the thread; 0 if the daemon cannot see it. Never for a decision
	Unique uint64 // of the FUSE request, bit 63 set where the kernel sent it again; 0 where there is none
	Mount  string // the mountpoint; empty on the command line
}
