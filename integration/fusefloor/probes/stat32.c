/*
 * stat32 FILE DIRECTORY: asks what a 32-bit program without large-file support asks: stat and
 * getdents with inode numbers of 32 bits. It prints a line for the file, one for each entry of
 * the directory, and one for its end:
 *
 *   stat ERRNO INODE
 *   entry INODE NAME
 *   getdents ERRNO
 *
 * It needs no 32-bit library: see the Makefile for its flags.
 */

static int call(int number, const void *a, const void *b, long c)
{
	int result;

	__asm__ volatile("int $0x80"
			 : "=a"(result)
			 : "a"(number), "b"(a), "c"(b), "d"(c)
			 : "memory");
	return result;
}

enum { SYS_EXIT = 1, SYS_WRITE = 4, SYS_OPEN = 5, SYS_STAT = 106, SYS_GETDENTS = 141 };

static void put(const char *text)
{
	int n = 0;

	while (text[n])
		n++;
	call(SYS_WRITE, (void *)1, text, n);
}

static void put_number(unsigned int n)
{
	char digits[11];
	int at = sizeof digits - 1;

	digits[at] = 0;
	do
		digits[--at] = '0' + n % 10;
	while (n /= 10);
	put(digits + at);
}

/* struct stat of i386, as far as it is needed. */
struct stat32 {
	unsigned int dev, ino;
	char rest[80];
};

struct dirent32 {
	unsigned int ino, off;
	unsigned short length;
	char name[];
};

static void list(const char *path)
{
	static char buf[32768] __attribute__((aligned(8)));
	int fd = call(SYS_OPEN, path, 0, 0), n;

	while ((n = call(SYS_GETDENTS, (void *)fd, buf, sizeof buf)) > 0) {
		for (int at = 0; at < n; at += ((struct dirent32 *)(buf + at))->length) {
			struct dirent32 *e = (struct dirent32 *)(buf + at);

			put("entry ");
			put_number(e->ino);
			put(" ");
			put(e->name);
			put("\n");
		}
	}
	put("getdents ");
	put_number(-n);
	put("\n");
}

__attribute__((used)) static void run(char **argv)
{
	struct stat32 st = {0};

	put("stat ");
	put_number(-call(SYS_STAT, argv[1], &st, 0));
	put(" ");
	put_number(st.ino);
	put("\n");
	list(argv[2]);
	call(SYS_EXIT, 0, 0, 0);
}

__asm__(".globl _start\n"
	"_start:\n"
	"\tlea 4(%esp), %eax\n"
	"\tand $-16, %esp\n"
	"\tsub $12, %esp\n"
	"\tpush %eax\n"
	"\tcall run\n");
