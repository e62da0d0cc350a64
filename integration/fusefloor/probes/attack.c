/*
 * attack MODE PROCESSES PATTERN [COUNT]: until its standard input ends, each process does
 * one thing without a pause. PATTERN is a path in which %d becomes a number below COUNT.
 * It prints "started" when all of them run, and at the end how many calls there were.
 *
 *   spin       computes, and touches no file: what any busy neighbour costs
 *   open       opens the path, and reads it where that works
 *   stat       stats it
 *   invent     opens names beside it that nobody asked for before
 *   populate   maps it with MAP_POPULATE: the kernel asks again and again for a page that
 *              it does not get
 *   interrupt  reads it, and is interrupted by a signal every 20 ms
 *   block      reads it once, and waits: PROCESSES are threads of one process
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *mode, *pattern;
static int files = 1;
static volatile long *calls; /* of each process */
static volatile long spun;

/* The path with the number i. The pattern comes from our own tests. */
static void path_of(char *b, size_t size, int i) { snprintf(b, size, pattern, i % files); }

static void read_once(const char *path)
{
	char b[65536];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) return;
	if (read(fd, b, sizeof b) < 0) {}
	close(fd);
}

static void populate(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) return;
	void *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	if (p != MAP_FAILED) munmap(p, 4096);
	close(fd);
}

static void ignore(int signal) { (void)signal; }

static void attack(int self)
{
	char path[4096], other[8192];
	struct stat st;
	struct timeval every = {0, 20000};
	struct itimerval timer = {every, every};
	if (!strcmp(mode, "interrupt")) {
		struct sigaction act = {.sa_handler = ignore}; /* no SA_RESTART: the read ends */
		sigaction(SIGALRM, &act, NULL);
		setitimer(ITIMER_REAL, &timer, NULL);
	}
	for (int i = self * 977;; i++) {
		path_of(path, sizeof path, i);
		if (!strcmp(mode, "spin")) for (long n = 0; n < 10000; n++) spun += n;
		else if (!strcmp(mode, "stat")) stat(path, &st);
		else if (!strcmp(mode, "populate")) populate(path);
		else if (!strcmp(mode, "invent")) {
			snprintf(other, sizeof other, "%s_%d_%d.json", path, getpid(), i);
			read_once(other);
		} else read_once(path);
		calls[self]++;
	}
}

static void *block(void *number)
{
	char path[4096];
	path_of(path, sizeof path, (int)(long)number);
	read_once(path);
	return NULL;
}

static void started(void) { printf("started\n"); fflush(stdout); }

static void wait_for_end(void) { char c; while (read(0, &c, 1) > 0) {} }

int main(int argc, char **argv)
{
	int count = argc >= 4 ? atoi(argv[2]) : 0;
	if (count < 1) { fprintf(stderr, "usage: attack MODE PROCESSES PATTERN [COUNT]\n"); return 2; }
	mode = argv[1], pattern = argv[3];
	if (argc > 4) files = atoi(argv[4]);
	calls = mmap(NULL, (size_t)count * sizeof *calls, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (calls == MAP_FAILED) { perror("mmap"); return 1; }
	if (!strcmp(mode, "block")) {
		pthread_attr_t small;
		pthread_attr_init(&small);
		pthread_attr_setstacksize(&small, 128 << 10);
		for (long i = 0; i < count; i++) {
			pthread_t t;
			if (pthread_create(&t, &small, block, (void *)i)) {
				fprintf(stderr, "only %ld threads\n", i);
				return 1;
			}
		}
		started();
		wait_for_end();
		printf("%d\n", count);
		fflush(stdout);
		_exit(0);
	}
	pid_t *pids = calloc((size_t)count, sizeof *pids);
	if (!pids) return 1;
	for (int i = 0; i < count; i++) {
		pids[i] = fork();
		if (pids[i] < 0) { perror("fork"); return 1; }
		if (pids[i] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			attack(i);
		}
	}
	started();
	wait_for_end();
	long sum = 0;
	for (int i = 0; i < count; i++) kill(pids[i], SIGKILL);
	for (int i = 0; i < count; i++) { waitpid(pids[i], NULL, 0); sum += calls[i]; }
	printf("%ld\n", sum);
	return 0;
}
