/*
 * timed MILLISECONDS PATTERN FIRST COUNT: opens, reads and closes files one after the other,
 * PATTERN with %d as FIRST, FIRST + 1 and so on, and after COUNT - 1 as 0. It prints
 *
 *   READS FAILED NEXT P50 P99 MAX
 *
 * where NEXT is the number to go on with, and the times are in microseconds.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static int64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int order(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	if (argc != 5) { fprintf(stderr, "usage: timed MILLISECONDS PATTERN FIRST COUNT\n"); return 2; }
	enum { most = 1 << 20 };
	int64_t *took = malloc(most * sizeof *took), end = now() + atoll(argv[1]) * 1000000LL;
	long first = atol(argv[3]), count = atol(argv[4]), n = 0, failed = 0;
	char path[4096], b[65536];
	if (!took || count < 1) return 1;
	do {
		snprintf(path, sizeof path, argv[2], (int)((first + n) % count));
		int64_t start = now();
		int fd = open(path, O_RDONLY);
		if (fd < 0 || read(fd, b, sizeof b) <= 0) failed++;
		if (fd >= 0) close(fd);
		took[n++] = now() - start;
	} while (now() < end && n < most);
	qsort(took, (size_t)n, sizeof *took, order);
	printf("%ld %ld %ld %.1f %.1f %.1f\n", n, failed, (first + n) % count,
	       took[(n - 1) / 2] / 1e3, took[(n - 1) * 99 / 100] / 1e3, took[n - 1] / 1e3);
	return 0;
}
