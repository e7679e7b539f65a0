/* The Linux system calls of the self-test, without a C library, and what its parts share. */
#ifndef SYSTEM_H
#define SYSTEM_H

#include <stddef.h>
#include <stdint.h>

enum {
	SYS_mkdirat = 34, SYS_unlinkat = 35, SYS_renameat2 = 276, SYS_ftruncate = 46, SYS_openat = 56, SYS_close = 57,
	SYS_pipe2 = 59, SYS_getdents64 = 61, SYS_lseek = 62, SYS_read = 63, SYS_write = 64, SYS_exit = 93,
	SYS_exit_group = 94, SYS_futex = 98, SYS_setitimer = 103, SYS_sched_yield = 124, SYS_kill = 129,
	SYS_rt_sigaction = 134, SYS_rt_sigprocmask = 135, SYS_rt_sigsuspend = 133, SYS_getpid = 172, SYS_clone = 220,
	SYS_execve = 221, SYS_munmap = 215, SYS_mmap = 222, SYS_mprotect = 226, SYS_wait4 = 260,
};

static inline long call6(long number, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;
	__asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory", "cc");
	return x0;
}

#define call(number, ...) call_pad(number, __VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define call_pad(number, a, b, c, d, e, f, ...) \
	call6(number, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

enum { AT_FDCWD = -100, O_RDWR = 2, O_CREAT = 0100, O_DIRECTORY = 040000, AT_REMOVEDIR = 0x200 };
enum { PROT_NONE = 0, PROT_READ = 1, PROT_WRITE = 2, MAP_PRIVATE = 2, MAP_ANONYMOUS = 0x20 };
enum { SIGUSR1 = 10, SIGSEGV = 11, SIGALRM = 14, SIGCHLD = 17, SA_SIGINFO = 4 };

/* Give up on the present test: it prints the reason, and the process ends with status 1. */
#define require(condition) \
	do { if (!(condition)) failed(#condition, __LINE__); } while (0)
_Noreturn void failed(const char *condition, int line);

/* A new thread at entry(argument) on the stack that ends at top; it ends with exit. Returns its ID. */
long start_thread(void *top, void (*entry)(void *), void *argument, int *tid);

long fork_process(void);
int wait_for(long pid);                       /* exit status, or 128 + signal */
uint64_t mix(uint64_t *state);                /* the next of a pseudo-random sequence */
void *map(size_t size);

void test_files(void);
void test_processes(const char *self);
void test_signals(void);
void test_threads(void);
void test_fp(void);
void test_memory(void);

#endif
