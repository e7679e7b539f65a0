/* The user-space self-test of a Linux guest: each part runs in a process of its own, one line says how it went.
 *   selftest            all parts
 *   selftest exit N     ends with status N (what the test of execve runs)
 */
#include "system.h"

static size_t length(const char *text)
{
	size_t n = 0;
	while (text[n])
		n++;
	return n;
}

static void print(const char *text)
{
	call(SYS_write, 1, text, length(text));
}

static void print_number(unsigned long value)
{
	char digits[24], *at = digits + sizeof digits;
	*--at = 0;
	do
		*--at = '0' + value % 10;
	while (value /= 10);
	print(at);
}

_Noreturn static void leave(int status)
{
	for (;;)
		call(SYS_exit_group, status);
}

void failed(const char *condition, int line)
{
	print("selftest: line ");
	print_number(line);
	print(": not so: ");
	print(condition);
	print("\n");
	leave(1);
}

uint64_t mix(uint64_t *state)
{
	uint64_t x = *state;
	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return *state = x;
}

void *map(size_t size)
{
	long at = call(SYS_mmap, 0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	require(at > 0);
	return (void *)at;
}

void *memset(void *to, int value, size_t size)
{
	for (char *at = to; size--;)
		*at++ = value;
	return to;
}

static const char *self;

static void test_exec(void)
{
	test_processes(self);
}

static const struct {
	const char *name;
	void (*test)(void);
} tests[] = {
	{ "files", test_files },     { "processes", test_exec }, { "signals", test_signals },
	{ "threads", test_threads }, { "fp", test_fp },          { "mmap", test_memory },
};

static int run_all(void)
{
	int failures = 0;
	for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
		long pid = fork_process();
		if (pid == 0) {
			tests[i].test();
			leave(0);
		}
		int status = wait_for(pid);
		print("selftest: ");
		print(tests[i].name);
		print(status ? " FAILED\n" : " ok\n");
		failures += status != 0;
	}
	return failures;
}

_Noreturn void run(long argc, char **argv)
{
	self = argv[0];
	if (argc == 3) {
		int status = 0;
		for (const char *digit = argv[2]; *digit >= '0' && *digit <= '9'; digit++)
			status = status * 10 + *digit - '0';
		leave(status);
	}
	leave(run_all());
}
