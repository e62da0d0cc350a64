/*
 * reader: makes load by reading small files.
 *
 * Each thread repeats one operation, and starts the next when the last one has ended,
 * until the time is over or the number of operations is reached. How long each took is
 * recorded. One JSON object is printed on standard output.
 *
 * Operations (-op):
 *   orc    open + read(bufsize) + close             (default)
 *   cat    open + fstat + read until EOF + close    (what coreutils cat does)
 *   oeof   open + read until EOF + close
 *   oc     open + close
 *   pread  pread on a descriptor opened once per thread
 *   stat   stat(path)
 *   access access(path, R_OK)
 *
 * In a path "%d" becomes a number below -files. The threads take the files at random
 * (xorshift, fixed seeds), so that no file is read more than others.
 *
 * The output has the CPU time for each operation of the reader itself and, with -pid, of the
 * serving process with its children. On a shared machine that is much steadier than the
 * number of operations a second.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum op { OP_ORC, OP_CAT, OP_OEOF, OP_OC, OP_PREAD, OP_STAT, OP_ACCESS };
static const char *const op_names[] = {"orc", "cat", "oeof", "oc", "pread", "stat", "access"};

static struct {
	const char *path;
	int threads;
	uint64_t n;      /* operations in all; 0: run for `seconds` */
	double seconds;
	double warmup;
	size_t bufsize;
	int files;
	enum op op;
	int phases;      /* also time open, read and close separately */
	pid_t pid;
	long uid;
	const char *label;
} cfg = {
	.threads = 1, .seconds = 2, .warmup = 0.2, .bufsize = 4096, .files = 1, .uid = -1, .label = "",
};

static atomic_int running = 0;             /* 0 not started, 1 warm-up, 2 measuring, 3 stop */
static atomic_uint_fast64_t budget = 0;
static pthread_barrier_t barrier;

struct samples { uint32_t *v; size_t len, cap; };

struct worker {
	pthread_t tid;
	uint64_t rng;
	uint64_t errors, bytes;
	int last_errno;
	int fd;
	char *buf;
	struct samples total, open, read, close;
};

static uint64_t now_ns(clockid_t clk)
{
	struct timespec ts;
	clock_gettime(clk, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void push(struct samples *s, uint64_t ns)
{
	if (s->len == s->cap) {
		s->cap = s->cap ? s->cap * 2 : 1 << 16;
		s->v = realloc(s->v, s->cap * sizeof *s->v);
		if (!s->v) { perror("realloc"); exit(1); }
	}
	s->v[s->len++] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
}

static const char *pick_path(struct worker *w, char *out, size_t cap)
{
	if (cfg.files <= 1 && !strstr(cfg.path, "%d")) return cfg.path;
	w->rng ^= w->rng << 13; w->rng ^= w->rng >> 7; w->rng ^= w->rng << 17;
	const char *pct = strstr(cfg.path, "%d");
	if (!pct) return cfg.path;
	snprintf(out, cap, "%.*s%" PRIu64 "%s", (int)(pct - cfg.path), cfg.path,
		 w->rng % (uint64_t)cfg.files, pct + 2);
	return out;
}

/* Runs one operation. t[0..3] are the open/read/close boundaries. */
static int run_once(struct worker *w, const char *path, uint64_t t[4])
{
	struct stat st;
	ssize_t got;
	t[0] = now_ns(CLOCK_MONOTONIC);
	t[1] = t[2] = t[0];
	switch (cfg.op) {
	case OP_STAT:
		if (stat(path, &st)) return errno;
		break;
	case OP_ACCESS:
		if (access(path, R_OK)) return errno;
		break;
	case OP_PREAD:
		if ((got = pread(w->fd, w->buf, cfg.bufsize, 0)) < 0) return errno;
		w->bytes += (uint64_t)got;
		break;
	default: {
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0) return errno;
		if (cfg.phases) t[1] = now_ns(CLOCK_MONOTONIC);
		int err = 0;
		if (cfg.op == OP_CAT && fstat(fd, &st)) err = errno;
		if (!err && cfg.op != OP_OC) {
			do {
				got = read(fd, w->buf, cfg.bufsize);
				if (got < 0) { err = errno; break; }
				w->bytes += (uint64_t)got;
			} while (got > 0 && cfg.op != OP_ORC);
		}
		if (cfg.phases) t[2] = now_ns(CLOCK_MONOTONIC);
		close(fd);
		if (err) return err;
	}
	}
	t[3] = now_ns(CLOCK_MONOTONIC);
	return 0;
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	char path[4096];
	w->buf = aligned_alloc(4096, (cfg.bufsize + 4095) / 4096 * 4096);
	w->fd = -1;
	if (cfg.op == OP_PREAD) {
		w->fd = open(pick_path(w, path, sizeof path), O_RDONLY | O_CLOEXEC);
		if (w->fd < 0) { perror(cfg.path); exit(1); }
	}
	pthread_barrier_wait(&barrier);
	for (;;) {
		int phase = atomic_load_explicit(&running, memory_order_relaxed);
		if (phase == 3) break;
		if (phase == 2 && cfg.n) {
			uint64_t left = atomic_load(&budget);
			if (left == 0) break;
			if (!atomic_compare_exchange_weak(&budget, &left, left - 1)) continue;
		}
		uint64_t t[4] = {0};
		int err = run_once(w, pick_path(w, path, sizeof path), t);
		if (phase != 2) continue;
		if (err) { w->errors++; w->last_errno = err; continue; }
		push(&w->total, t[3] - t[0]);
		if (cfg.phases) {
			push(&w->open, t[1] - t[0]);
			push(&w->read, t[2] - t[1]);
			push(&w->close, t[3] - t[2]);
		}
	}
	return NULL;
}

static int cmp_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

static struct samples merge(struct worker *w, int n, size_t off)
{
	struct samples all = {0};
	for (int i = 0; i < n; i++) all.cap += ((struct samples *)((char *)&w[i] + off))->len;
	all.v = malloc((all.cap + 1) * sizeof *all.v);
	for (int i = 0; i < n; i++) {
		struct samples *s = (struct samples *)((char *)&w[i] + off);
		if (s->len) memcpy(all.v + all.len, s->v, s->len * sizeof *s->v);
		all.len += s->len;
	}
	qsort(all.v, all.len, sizeof *all.v, cmp_u32);
	return all;
}

static double pct_us(const struct samples *s, double p)
{
	if (!s->len) return 0;
	size_t i = (size_t)(p * (double)(s->len - 1) + 0.5);
	return s->v[i] / 1000.0;
}

static double mean_us(const struct samples *s)
{
	double sum = 0;
	for (size_t i = 0; i < s->len; i++) sum += s->v[i];
	return s->len ? sum / (double)s->len / 1000.0 : 0;
}

static double self_cpu(void)
{
	return (double)now_ns(CLOCK_PROCESS_CPUTIME_ID) / 1e9;
}

/* CPU time of one live process. */
static double process_cpu(pid_t pid)
{
	clockid_t clk;
	if (clock_getcpuclockid(pid, &clk)) return 0;
	return (double)now_ns(clk) / 1e9;
}

/* CPU time of the children that pid has waited for: cutime and cstime. */
static double reaped_cpu(pid_t pid)
{
	char path[64], line[1024];
	unsigned long user = 0, system = 0;
	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	FILE *f = fopen(path, "r");
	if (!f) return 0;
	if (fgets(line, sizeof line, f)) {
		char *after = strrchr(line, ')'); /* the name may hold anything */
		const char *format = " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %lu %lu";
		if (!after || sscanf(after + 1, format, &user, &system) != 2) user = system = 0;
	}
	fclose(f);
	return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

/*
 * CPU time of pid and of all its descendants, those that have ended included:
 * a daemon may do part of its work in children.
 */
static double tree_cpu(pid_t pid)
{
	char path[300];
	if (pid <= 0) return 0;
	double sum = process_cpu(pid) + reaped_cpu(pid);
	snprintf(path, sizeof path, "/proc/%d/task", pid);
	DIR *tasks = opendir(path);
	if (!tasks) return sum;
	for (struct dirent *e; (e = readdir(tasks));) {
		if (e->d_name[0] == '.') continue;
		snprintf(path, sizeof path, "/proc/%d/task/%.20s/children", pid, e->d_name);
		FILE *f = fopen(path, "r");
		if (!f) continue;
		for (int child; fscanf(f, "%d", &child) == 1;) sum += tree_cpu(child);
		fclose(f);
	}
	closedir(tasks);
	return sum;
}

static void sleep_s(double s)
{
	struct timespec ts = {(time_t)s, (long)((s - (double)(time_t)s) * 1e9)};
	while (nanosleep(&ts, &ts) && errno == EINTR) ;
}

static void usage(void)
{
	fprintf(stderr,
		"usage: reader -path P [-threads N] [-n OPS | -seconds S]\n"
		"              [-op orc|cat|oeof|oc|pread|stat|access] [-warmup S] [-bufsize B]\n"
		"              [-files K (P holds %%d)] [-phases] [-pid SERVER] [-uid U] [-label TEXT]\n");
	exit(2);
}

static void parse(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const char *a = argv[i];
		if (a[0] == '-' && a[1] == '-') a++;
		if (!strcmp(a, "-phases")) { cfg.phases = 1; continue; }
		if (i + 1 >= argc) usage();
		const char *v = argv[++i];
		if (!strcmp(a, "-path")) cfg.path = v;
		else if (!strcmp(a, "-threads")) cfg.threads = atoi(v);
		else if (!strcmp(a, "-n")) cfg.n = strtoull(v, NULL, 10);
		else if (!strcmp(a, "-seconds")) cfg.seconds = atof(v);
		else if (!strcmp(a, "-warmup")) cfg.warmup = atof(v);
		else if (!strcmp(a, "-bufsize")) cfg.bufsize = strtoull(v, NULL, 10);
		else if (!strcmp(a, "-files")) cfg.files = atoi(v);
		else if (!strcmp(a, "-pid")) cfg.pid = atoi(v);
		else if (!strcmp(a, "-uid")) cfg.uid = atol(v);
		else if (!strcmp(a, "-label")) cfg.label = v;
		else if (!strcmp(a, "-op")) {
			size_t k, count = sizeof op_names / sizeof *op_names;
			for (k = 0; k < count && strcmp(v, op_names[k]); k++) ;
			if (k == count) usage();
			cfg.op = (enum op)k;
		} else usage();
	}
	if (!cfg.path || cfg.threads < 1 || cfg.bufsize < 1) usage();
}

int main(int argc, char **argv)
{
	parse(argc, argv);
	if (cfg.uid >= 0) {
		if (setgroups(0, NULL) || setgid((gid_t)cfg.uid) || setuid((uid_t)cfg.uid)) {
			perror("setuid");
			return 1;
		}
	}
	struct worker *w = calloc((size_t)cfg.threads, sizeof *w);
	pthread_barrier_init(&barrier, NULL, (unsigned)cfg.threads + 1);
	atomic_store(&running, 1);
	for (int i = 0; i < cfg.threads; i++) {
		w[i].rng = 0x9E3779B97F4A7C15u * (uint64_t)(i + 1);
		if (pthread_create(&w[i].tid, NULL, worker_main, &w[i])) {
			perror("pthread_create");
			return 1;
		}
	}
	pthread_barrier_wait(&barrier);
	sleep_s(cfg.warmup);

	atomic_store(&budget, cfg.n);
	double srv0 = tree_cpu(cfg.pid), cpu0 = self_cpu();
	uint64_t t0 = now_ns(CLOCK_MONOTONIC);
	atomic_store(&running, 2);
	if (!cfg.n) {
		sleep_s(cfg.seconds);
		atomic_store(&running, 3);
	}
	for (int i = 0; i < cfg.threads; i++) pthread_join(w[i].tid, NULL);
	double wall = (double)(now_ns(CLOCK_MONOTONIC) - t0) / 1e9;
	double cpu = self_cpu() - cpu0, srv = tree_cpu(cfg.pid) - srv0;

	uint64_t errors = 0, bytes = 0;
	int last_errno = 0;
	for (int i = 0; i < cfg.threads; i++) {
		errors += w[i].errors;
		bytes += w[i].bytes;
		if (w[i].last_errno) last_errno = w[i].last_errno;
	}
	struct samples all = merge(w, cfg.threads, offsetof(struct worker, total));
	double ops = (double)all.len;
	printf("{\"label\":\"%s\",\"op\":\"%s\",\"threads\":%d,\"ops\":%zu,\"errors\":%" PRIu64
	       ",\"errno\":%d,\"seconds\":%.3f,\"ops_per_s\":%.0f,\"mean_us\":%.2f,\"p50_us\":%.2f,"
	       "\"p90_us\":%.2f,\"p99_us\":%.2f,\"p999_us\":%.2f,\"max_us\":%.2f,\"bytes\":%" PRIu64
	       ",\"reader_cpu_us_per_op\":%.2f,\"server_cpu_us_per_op\":%.2f",
	       cfg.label, op_names[cfg.op], cfg.threads, all.len, errors, last_errno, wall, ops / wall,
	       mean_us(&all), pct_us(&all, .5), pct_us(&all, .9), pct_us(&all, .99), pct_us(&all, .999),
	       pct_us(&all, 1), bytes, ops ? cpu * 1e6 / ops : 0, ops ? srv * 1e6 / ops : 0);
	if (cfg.phases) {
		struct samples o = merge(w, cfg.threads, offsetof(struct worker, open));
		struct samples r = merge(w, cfg.threads, offsetof(struct worker, read));
		struct samples c = merge(w, cfg.threads, offsetof(struct worker, close));
		printf(",\"open_p50_us\":%.2f,\"read_p50_us\":%.2f,\"close_p50_us\":%.2f",
		       pct_us(&o, .5), pct_us(&r, .5), pct_us(&c, .5));
	}
	printf("}\n");
	return errors && !all.len;
}
