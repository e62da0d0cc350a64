/*
 * passed PATH FROM TO [OP...]: what uid TO gets from a descriptor that uid FROM opened.
 * Without OP it tries them all. Each OP runs in a process of its own on a new descriptor.
 * Before that FROM and then root have sent the file with sendfile and touched a private
 * mapping of it, on that same descriptor. It needs root, and prints one line for each OP:
 *
 *   OP OUTCOME DATA RESIDENT
 *
 * OUTCOME is a number of bytes, the name of an error, or the name of the signal that ended
 * the process: SIGBUS for a page that is refused, SIGALRM for one that never came. DATA is
 * what reached memory or a pipe, in hexadecimal, or "-" for nothing. RESIDENT is 1 where a
 * page of content was in the page cache afterwards, else 0.
 *
 * With getdents PATH is a directory, and DATA has the names that TO sees, each with a line
 * break.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE 4096
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef RWF_DONTCACHE
#define RWF_DONTCACHE 0x80
#endif

static char buf[SIZE] __attribute__((aligned(SIZE)));

/* Ways of read(2). */

static ssize_t op_read(int fd) { return read(fd, buf, SIZE); }
static ssize_t op_pread(int fd) { return pread(fd, buf, SIZE, 0); }

static ssize_t vector(int fd, int flags)
{
	struct iovec to = {buf, SIZE};
	return preadv2(fd, &to, 1, 0, flags);
}
static ssize_t op_preadv2(int fd) { return vector(fd, 0); }
static ssize_t op_hipri(int fd) { return vector(fd, RWF_HIPRI); }
static ssize_t op_sync(int fd) { return vector(fd, RWF_SYNC); }
static ssize_t op_nowait(int fd) { return vector(fd, RWF_NOWAIT); }
static ssize_t op_dontcache(int fd) { return vector(fd, RWF_DONTCACHE); }

static int direct(int fd) { return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_DIRECT); }
static ssize_t op_odirect(int fd) { return direct(fd) ? -1 : pread(fd, buf, SIZE, 0); }

static ssize_t op_aio(int fd)
{
	aio_context_t context = 0;
	struct iocb read = {
		.aio_fildes = (uint32_t)fd,
		.aio_lio_opcode = IOCB_CMD_PREAD,
		.aio_buf = (uintptr_t)buf,
		.aio_nbytes = SIZE,
	}, *all = &read;
	struct io_event done;
	if (syscall(SYS_io_setup, 1, &context)) return -1;
	if (syscall(SYS_io_submit, context, 1, &all) != 1) return -1;
	if (syscall(SYS_io_getevents, context, 1, 1, &done, NULL) != 1) return -1;
	if (done.res < 0) { errno = (int)-done.res; return -1; }
	return done.res;
}

/* Maps a part of a ring. */
static void *shared(int ring, size_t size, off_t part)
{
	return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, ring, part);
}

static ssize_t op_uring(int fd)
{
	struct io_uring_params p = {0};
	int ring = (int)syscall(SYS_io_uring_setup, 1, &p);
	if (ring < 0) return -1;
	char *sq = shared(ring, p.sq_off.array + p.sq_entries * sizeof(uint32_t), IORING_OFF_SQ_RING);
	char *cq = shared(ring, p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe),
			  IORING_OFF_CQ_RING);
	struct io_uring_sqe *e = shared(ring, p.sq_entries * sizeof *e, IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || e == MAP_FAILED) return -1;
	*e = (struct io_uring_sqe){
		.opcode = IORING_OP_READ, .fd = fd, .addr = (uintptr_t)buf, .len = SIZE,
	};
	*(uint32_t *)(sq + p.sq_off.array) = 0;
	__atomic_store_n((uint32_t *)(sq + p.sq_off.tail), 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0) return -1;
	struct io_uring_cqe *done = (struct io_uring_cqe *)(cq + p.cq_off.cqes);
	if (done->res < 0) { errno = -done->res; return -1; }
	return done->res;
}

/* Ways of opening it once more. */

static ssize_t reopened(int fd, int flags)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	int again = open(path, flags);
	if (again < 0 || flags & O_PATH) return again;
	return read(again, buf, SIZE);
}
static ssize_t op_reopen(int fd) { return reopened(fd, O_RDONLY); }
static ssize_t op_reopen_path(int fd)
{
	int handle = (int)reopened(fd, O_PATH);
	return handle < 0 ? -1 : reopened(handle, O_RDONLY);
}

static ssize_t op_handle(int fd)
{
	union { struct file_handle handle; char room[sizeof(struct file_handle) + MAX_HANDLE_SZ]; } h;
	int mount;
	h.handle.handle_bytes = MAX_HANDLE_SZ;
	if (name_to_handle_at(fd, "", &h.handle, &mount, AT_EMPTY_PATH)) {
		perror("name_to_handle_at");
		_exit(1);
	}
	int again = open_by_handle_at(fd, &h.handle, O_RDONLY);
	return again < 0 ? -1 : read(again, buf, SIZE);
}

/* Ways through the page cache. */

/* Empties a pipe or socket into the buffer, once something was put into it. */
static ssize_t drained(int from, ssize_t n)
{
	return n <= 0 ? n : read(from, buf, SIZE);
}

static ssize_t op_splice(int fd)
{
	int p[2];
	loff_t at = 0;
	return pipe(p) ? -1 : drained(p[0], splice(fd, &at, p[1], NULL, SIZE, 0));
}

static ssize_t sent(int fd)
{
	int p[2];
	off_t at = 0;
	return pipe(p) ? -1 : drained(p[0], sendfile(p[1], fd, &at, SIZE));
}
static ssize_t op_sendfile(int fd) { return sent(fd); }
static ssize_t op_sendfile_odirect(int fd) { return direct(fd) ? -1 : sent(fd); }

static ssize_t op_sendfile_socket(int fd)
{
	int s[2];
	off_t at = 0;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, s)) return -1;
	return drained(s[1], sendfile(s[0], fd, &at, SIZE));
}

static ssize_t op_copy_file_range(int fd)
{
	loff_t at = 0;
	int to = memfd_create("passed", 0);
	ssize_t n = copy_file_range(fd, &at, to, NULL, SIZE, 0);
	return n <= 0 ? n : pread(to, buf, SIZE, 0);
}

/* Touches a mapping. A page that is refused ends the process with SIGBUS. */
static ssize_t mapped(int fd, int flags)
{
	char *p = mmap(NULL, SIZE, PROT_READ, flags, fd, 0);
	if (p == MAP_FAILED) return -1;
	memcpy(buf, p, SIZE);
	return SIZE;
}
static ssize_t op_mmap_private(int fd) { return mapped(fd, MAP_PRIVATE); }
static ssize_t op_mmap_shared(int fd) { return mapped(fd, MAP_SHARED); }
static ssize_t op_mmap_populate(int fd)
{
	alarm(1);
	return mapped(fd, MAP_PRIVATE | MAP_POPULATE);
}
static ssize_t op_readahead(int fd)
{
	return readahead(fd, 0, SIZE) ? -1 : mapped(fd, MAP_PRIVATE);
}
static ssize_t op_fadvise(int fd)
{
	errno = posix_fadvise(fd, 0, SIZE, POSIX_FADV_WILLNEED);
	return errno ? -1 : mapped(fd, MAP_PRIVATE);
}

/* Has the kernel read a mapping in place of the process. */
static char *mapping(int fd)
{
	char *p = mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED) { perror("mmap"); _exit(1); }
	return p;
}
static ssize_t op_madvise_populate(int fd)
{
	char *p = mapping(fd);
	if (madvise(p, SIZE, MADV_POPULATE_READ)) return -1;
	memcpy(buf, p, SIZE);
	return SIZE;
}
static ssize_t op_vmsplice(int fd)
{
	int p[2];
	struct iovec from = {mapping(fd), SIZE};
	return pipe(p) ? -1 : drained(p[0], vmsplice(p[1], &from, 1, 0));
}
static ssize_t op_write_mapping(int fd)
{
	int p[2];
	return pipe(p) ? -1 : drained(p[0], write(p[1], mapping(fd), SIZE));
}
static ssize_t op_process_vm_readv(int fd)
{
	struct iovec to = {buf, SIZE}, from = {mapping(fd), SIZE};
	return process_vm_readv(getpid(), &to, 1, &from, 1, 0);
}

static ssize_t op_getdents(int fd)
{
	DIR *d = fdopendir(fd);
	if (!d) return -1;
	size_t n = 0;
	for (struct dirent *e; errno = 0, (e = readdir(d));)
		if (e->d_name[0] != '.') n += (size_t)snprintf(buf + n, SIZE - n, "%s\n", e->d_name);
	return errno ? -1 : (ssize_t)n;
}

static const struct { const char *name; ssize_t (*run)(int fd); } ops[] = {
	{"read", op_read},
	{"pread", op_pread},
	{"preadv2", op_preadv2},
	{"preadv2-hipri", op_hipri},
	{"preadv2-sync", op_sync},
	{"preadv2-nowait", op_nowait},
	{"preadv2-dontcache", op_dontcache},
	{"odirect", op_odirect},
	{"aio", op_aio},
	{"uring", op_uring},
	{"reopen", op_reopen},
	{"reopen-path", op_reopen_path},
	{"handle", op_handle},
	{"splice", op_splice},
	{"sendfile", op_sendfile},
	{"sendfile-odirect", op_sendfile_odirect},
	{"sendfile-socket", op_sendfile_socket},
	{"copy_file_range", op_copy_file_range},
	{"mmap-private", op_mmap_private},
	{"mmap-shared", op_mmap_shared},
	{"mmap-populate", op_mmap_populate},
	{"readahead", op_readahead},
	{"fadvise", op_fadvise},
	{"madvise-populate", op_madvise_populate},
	{"vmsplice", op_vmsplice},
	{"write-mapping", op_write_mapping},
	{"process_vm_readv", op_process_vm_readv},
	{"getdents", op_getdents}, /* the last one: without OP it is left out */
};
enum { OPS = sizeof ops / sizeof *ops };

static void become(uid_t uid)
{
	if (setgroups(0, NULL) || setgid(uid) || setuid(uid)) { perror("setuid"); _exit(1); }
}

/* Runs op on fd as uid, in a process of its own, and returns how that ended. */
static int as(uid_t uid, ssize_t (*run)(int), int fd, int report)
{
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		become(uid);
		alarm(30);
		ssize_t n = run(fd);
		if (!report) _exit(0);
		if (n < 0) printf("%s ", strerrorname_np(errno));
		else printf("%zd ", n);
		size_t length = SIZE;
		while (length > 0 && !buf[length - 1]) length--;
		if (length == 0) printf("-");
		for (size_t i = 0; i < length; i++) printf("%02x", (unsigned char)buf[i]);
		fflush(stdout);
		_exit(0);
	}
	int status;
	if (pid < 0 || waitpid(pid, &status, 0) != pid) { perror("fork"); exit(1); }
	return status;
}

/* Whether the file's first page is in the page cache, with content. */
static int resident(int fd)
{
	unsigned char in = 0;
	void *p = mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED) return 0; /* a directory */
	if (mincore(p, SIZE, &in)) { perror("mincore"); exit(1); }
	munmap(p, SIZE);
	return in & 1;
}

static void run(const char *path, uid_t from, uid_t to, int op)
{
	if (seteuid(from)) { perror("seteuid"); exit(1); }
	int fd = open(path, O_RDONLY);
	if (fd < 0) { perror(path); exit(1); }
	if (seteuid(0)) { perror("seteuid"); exit(1); }
	if (ops[op].run != op_getdents) {
		for (int i = 0; i < 2; i++) {
			as(i ? 0 : from, op_sendfile, fd, 0);
			as(i ? 0 : from, op_mmap_private, fd, 0);
		}
	}
	printf("%s ", ops[op].name);
	int status = as(to, ops[op].run, fd, 1);
	if (WIFSIGNALED(status)) printf("SIG%s -", sigabbrev_np(WTERMSIG(status)));
	else if (status) exit(1);
	printf(" %d\n", resident(fd));
	close(fd);
}

int main(int argc, char **argv)
{
	if (argc < 4) { fprintf(stderr, "usage: passed PATH FROM TO [OP...]\n"); return 2; }
	uid_t from = (uid_t)strtoul(argv[2], NULL, 10), to = (uid_t)strtoul(argv[3], NULL, 10);
	for (int i = 0; argc == 4 && i < OPS - 1; i++) run(argv[1], from, to, i);
	for (int a = 4; a < argc; a++) {
		int i = 0;
		while (i < OPS && strcmp(ops[i].name, argv[a])) i++;
		if (i == OPS) { fprintf(stderr, "passed: unknown operation %s\n", argv[a]); return 2; }
		run(argv[1], from, to, i);
	}
	return 0;
}
