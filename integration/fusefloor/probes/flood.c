/*
 * flood PROCESSES PATH: until its standard input ends, each process opens and
 * stats PATH, and names beside it that it invents, without a pause. Prints how
 * many calls there were, and how many of the opens succeeded:
 *
 *   CALLS OPENED
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct tally { long calls, opened; };

static void flood(const char *path, struct tally *t, struct pollfd *end)
{
	char invented[4096];
	struct stat st;
	while (poll(end, 1, 0) == 0) {
		snprintf(invented, sizeof invented, "%s_%d_%ld.json", path, getpid(), t->calls);
		const char *names[] = {path, invented};
		for (int i = 0; i < 2; i++) {
			stat(names[i], &st);
			int fd = open(names[i], O_RDONLY);
			t->calls += 2;
			if (fd >= 0) { t->opened++; close(fd); }
		}
	}
}

int main(int argc, char **argv)
{
	int count = argc == 3 ? atoi(argv[1]) : 0;
	if (count < 1) { fprintf(stderr, "usage: flood PROCESSES PATH\n"); return 2; }
	struct pollfd end = {.fd = 0, .events = POLLIN};
	struct tally *t = mmap(NULL, (size_t)count * sizeof *t, PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (t == MAP_FAILED) { perror("mmap"); return 1; }
	for (int i = 0; i < count; i++) {
		pid_t pid = fork();
		if (pid < 0) { perror("fork"); return 1; }
		if (pid == 0) { flood(argv[2], &t[i], &end); _exit(0); }
	}
	long calls = 0, opened = 0;
	while (wait(NULL) > 0) {}
	for (int i = 0; i < count; i++) { calls += t[i].calls; opened += t[i].opened; }
	printf("%ld %ld\n", calls, opened);
	return 0;
}
