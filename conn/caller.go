package conn

// Caller is who asks, as the kernel reports it with the request.
type Caller struct {
	UID uint32 // the file-system uid, as the host numbers it
	GID uint32
	PID uint32 // of the thread; 0 if the daemon cannot see it. Never used for a decision
	// Unique is the number of the FUSE request, with bit 63 set if the kernel sent it
	// again; 0 on the command line.
	Unique uint64
	Mount  string // the mountpoint; empty on the command line
}
