/*
 * aioqueue COUNT PATH: a reader that opens PATH and reads it. When a line arrives on its
 * standard input, it submits COUNT asynchronous direct reads. It prints "open" and
 * "submitting" as it goes, and after the last answer how many of them failed:
 *
 *   failed COUNT
 *
 * The kernel takes as many at once as it has places for requests in the background.
 * io_submit(2) waits with the others.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SIZE 4096

static char buf[SIZE] __attribute__((aligned(SIZE)));

static void say(const char *line) { puts(line); fflush(stdout); }

int main(int argc, char **argv)
{
	int count = argc == 3 ? atoi(argv[1]) : 0;
	if (count < 1) { fprintf(stderr, "usage: aioqueue COUNT PATH\n"); return 2; }
	int fd = open(argv[2], O_RDONLY | O_DIRECT);
	if (fd < 0 || read(fd, buf, SIZE) <= 0) { perror(argv[2]); return 1; }
	aio_context_t context = 0;
	struct iocb *reads = calloc((size_t)count, sizeof *reads);
	struct iocb **all = calloc((size_t)count, sizeof *all);
	if (!reads || !all || syscall(SYS_io_setup, count, &context)) { perror("io_setup"); return 1; }
	say("open");
	char c;
	if (read(0, &c, 1) != 1) return 1;
	for (int i = 0; i < count; i++) {
		reads[i] = (struct iocb){
			.aio_fildes = (uint32_t)fd,
			.aio_lio_opcode = IOCB_CMD_PREAD,
			.aio_buf = (uintptr_t)buf,
			.aio_nbytes = SIZE,
		};
		all[i] = &reads[i];
	}
	struct io_event *done = calloc((size_t)count, sizeof *done);
	if (!done) return 1;
	say("submitting");
	if (syscall(SYS_io_submit, context, count, all) != count) { perror("io_submit"); return 1; }
	if (syscall(SYS_io_getevents, context, count, count, done, NULL) != count) {
		perror("io_getevents");
		return 1;
	}
	int failed = 0;
	for (int i = 0; i < count; i++) failed += done[i].res < 0;
	printf("failed %d\n", failed);
	return 0;
}
