/* Files, processes, pipes, signals. */
#include "system.h"

enum { FILE_SIZE = 1 << 20, CHILDREN = 8 };

long fork_process(void)
{
	long pid = call(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	require(pid >= 0);
	return pid;
}

int wait_for(long pid)
{
	int status = 0;
	long got;
	while ((got = call(SYS_wait4, pid, &status, 0, 0)) == -4)
		;
	require(got == pid);
	return status & 0x7f ? 128 + (status & 0x7f) : (status >> 8) & 0xff;
}

static void fill(uint64_t *buffer, size_t words, uint64_t seed)
{
	while (words--)
		*buffer++ = mix(&seed);
}

void test_files(void)
{
	static uint64_t written[8192], back[8192];
	call(SYS_mkdirat, AT_FDCWD, "/tmp/selftest", 0755);
	long file = call(SYS_openat, AT_FDCWD, "/tmp/selftest/one", O_RDWR | O_CREAT, 0644);
	require(file >= 0);
	for (int part = 0; part < FILE_SIZE / (int)sizeof written; part++) {
		fill(written, 8192, part + 1);
		require(call(SYS_write, file, written, sizeof written) == sizeof written);
	}
	require(call(SYS_lseek, file, 0, 0) == 0);
	for (int part = 0; part < FILE_SIZE / (int)sizeof written; part++) {
		fill(written, 8192, part + 1);
		require(call(SYS_read, file, back, sizeof back) == sizeof back);
		for (int i = 0; i < 8192; i++)
			require(back[i] == written[i]);
	}
	require(call(SYS_read, file, back, 1) == 0);
	require(call(SYS_ftruncate, file, 100) == 0);
	require(call(SYS_lseek, file, 0, 2) == 100);
	call(SYS_close, file);
	require(call(SYS_renameat2, AT_FDCWD, "/tmp/selftest/one", AT_FDCWD, "/tmp/selftest/two", 0) == 0);
	require(call(SYS_openat, AT_FDCWD, "/tmp/selftest/one", 0, 0) == -2);
	long folder = call(SYS_openat, AT_FDCWD, "/tmp/selftest", O_DIRECTORY, 0);
	require(folder >= 0);
	require(call(SYS_getdents64, folder, back, sizeof back) > 0);
	call(SYS_close, folder);
	require(call(SYS_unlinkat, AT_FDCWD, "/tmp/selftest/two", 0) == 0);
	require(call(SYS_unlinkat, AT_FDCWD, "/tmp/selftest", AT_REMOVEDIR) == 0);
}

void test_processes(const char *self)
{
	/* Children write what they computed into a pipe, and end with a status of their own. */
	int ends[2];
	long pids[CHILDREN];
	require(call(SYS_pipe2, ends, 0) == 0);
	for (int i = 0; i < CHILDREN; i++) {
		pids[i] = fork_process();
		if (pids[i] == 0) {
			uint64_t state = i + 1;
			for (int round = 0; round < 10000; round++)
				mix(&state);
			uint64_t message[2] = { i, state };
			int sent = call(SYS_write, ends[1], message, sizeof message) == sizeof message;
			call(SYS_exit_group, sent ? 40 + i : 1);
		}
	}
	call(SYS_close, ends[1]);
	unsigned seen = 0;
	for (int i = 0; i < CHILDREN; i++) {
		uint64_t message[2];
		require(call(SYS_read, ends[0], message, sizeof message) == sizeof message);
		require(message[0] < CHILDREN);
		uint64_t state = message[0] + 1;
		for (int round = 0; round < 10000; round++)
			mix(&state);
		require(message[1] == state);
		seen |= 1u << message[0];
	}
	require(seen == (1u << CHILDREN) - 1);
	require(call(SYS_read, ends[0], &seen, 1) == 0);
	for (int i = 0; i < CHILDREN; i++)
		require(wait_for(pids[i]) == 40 + i);
	/* A new program in a new process. */
	long pid = fork_process();
	if (pid == 0) {
		const char *arguments[] = { self, "exit", "77", 0 }, *environment[] = { 0 };
		call(SYS_execve, self, arguments, environment);
		call(SYS_exit_group, 1);
	}
	require(wait_for(pid) == 77);
	/* A process that ends by a signal. */
	volatile int *volatile nowhere = (int *)16;
	pid = fork_process();
	if (pid == 0)
		for (;;)
			*nowhere = 0;
	require(wait_for(pid) == 128 + SIGSEGV);
}

struct action {
	void *handler;
	unsigned long flags;
	void *restorer;
	uint64_t mask;
};

static volatile int users, alarms, faults;
static char *fault_page;

static void on_user(int number)
{
	users += number == SIGUSR1;
}

static void on_alarm(int number)
{
	alarms += number == SIGALRM;
}

/* siginfo has si_addr at 16: what the handler repairs is the page that the store at fault needs. */
static void on_fault(int number, void *info, void *context)
{
	(void)context;
	faults++;
	if (number != SIGSEGV || ((uint64_t *)info)[2] != (uint64_t)fault_page)
		call(SYS_exit_group, 2);
	if (call(SYS_mprotect, fault_page, 65536, PROT_READ | PROT_WRITE) != 0)
		call(SYS_exit_group, 3);
}

static void handle(int number, void *handler, unsigned long flags)
{
	struct action action = { handler, flags, 0, 0 };
	require(call(SYS_rt_sigaction, number, &action, 0, 8) == 0);
}

void test_signals(void)
{
	handle(SIGUSR1, (void *)on_user, 0);
	for (int i = 1; i <= 100; i++) {
		require(call(SYS_kill, call(SYS_getpid, 0), SIGUSR1) == 0);
		require(users == i);
	}
	/* Blocked, pending, delivered once. */
	uint64_t block = 1ull << (SIGUSR1 - 1), old = 0;
	require(call(SYS_rt_sigprocmask, 0, &block, &old, 8) == 0);
	call(SYS_kill, call(SYS_getpid, 0), SIGUSR1);
	call(SYS_kill, call(SYS_getpid, 0), SIGUSR1);
	require(users == 100);
	require(call(SYS_rt_sigprocmask, 2, &old, 0, 8) == 0);
	require(users == 101);
	/* A fault that its handler repairs. */
	handle(SIGSEGV, (void *)on_fault, SA_SIGINFO);
	fault_page = map(65536);
	require(call(SYS_mprotect, fault_page, 65536, PROT_NONE) == 0);
	*(volatile uint64_t *)fault_page = 0x1122334455667788;
	require(faults == 1 && *(volatile uint64_t *)fault_page == 0x1122334455667788);
	/* A timer that wakes a sleeping process, five times. */
	handle(SIGALRM, (void *)on_alarm, 0);
	block = 1ull << (SIGALRM - 1);
	require(call(SYS_rt_sigprocmask, 0, &block, &old, 8) == 0);
	long interval[4] = { 0, 5000, 0, 5000 }, never[4] = { 0, 0, 0, 0 };
	require(call(SYS_setitimer, 0, interval, 0) == 0);
	while (alarms < 5)
		require(call(SYS_rt_sigsuspend, &old, 8) == -4);
	require(call(SYS_setitimer, 0, never, 0) == 0);
}
