/*
 * invent PROCESSES COUNT PATH: the processes look COUNT names up that begin
 * with PATH, each another one: PATH0.json, PATH1.json and so on. Nothing is
 * asked but LOOKUP. Prints how many names there are to the kernel.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static long invent(const char *path, long from, long to, int step)
{
	char name[4096];
	long found = 0;
	for (long i = from; i < to; i += step) {
		snprintf(name, sizeof name, "%s%ld.json", path, i);
		int fd = open(name, O_PATH);
		if (fd >= 0) { found++; close(fd); }
	}
	return found;
}

int main(int argc, char **argv)
{
	int processes = argc == 4 ? atoi(argv[1]) : 0;
	long count = argc == 4 ? atol(argv[2]) : 0, all = 0;
	if (processes < 1 || count < 1) {
		fprintf(stderr, "usage: invent PROCESSES COUNT PATH\n");
		return 2;
	}
	long *found = mmap(NULL, (size_t)processes * sizeof *found, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (found == MAP_FAILED) { perror("mmap"); return 1; }
	for (int i = 0; i < processes; i++) {
		pid_t pid = fork();
		if (pid < 0) { perror("fork"); return 1; }
		if (pid == 0) { found[i] = invent(argv[3], i, count, processes); _exit(0); }
	}
	while (wait(NULL) > 0) {}
	for (int i = 0; i < processes; i++) all += found[i];
	printf("%ld\n", all);
	return 0;
}
