/*
 * crowd COUNT PATH...: COUNT processes that each read one of the paths, in turn.
 * It prints "started" when all of them run, and kills them when its standard input
 * ends. Then it prints how many of them the signal ended, and how long it took until
 * the last one was gone:
 *
 *   killed COUNT MILLISECONDS
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int main(int argc, char **argv)
{
	int count = argc > 2 ? atoi(argv[1]) : 0, killed = 0;
	if (count < 1) { fprintf(stderr, "usage: crowd COUNT PATH...\n"); return 2; }
	pid_t *pids = calloc((size_t)count, sizeof *pids);
	if (!pids) return 1;
	for (int i = 0; i < count; i++) {
		pids[i] = fork();
		if (pids[i] < 0) { perror("fork"); return 1; }
		if (pids[i] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			char b[4096];
			int fd = open(argv[2 + i % (argc - 2)], O_RDONLY);
			_exit(fd < 0 || read(fd, b, sizeof b) < 0);
		}
	}
	printf("started\n");
	fflush(stdout);
	char c;
	while (read(0, &c, 1) > 0) {}
	long start = now();
	for (int i = 0; i < count; i++) kill(pids[i], SIGKILL);
	for (int i = 0; i < count; i++) {
		int status;
		if (waitpid(pids[i], &status, 0) == pids[i] && WIFSIGNALED(status)) killed++;
	}
	printf("killed %d %ld\n", killed, now() - start);
	return 0;
}
