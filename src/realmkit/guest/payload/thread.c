/* Threads, futexes, and floating point registers across context switches. */
#include "system.h"

enum { THREADS = 4, ROUNDS = 2000, STACK = 64 << 10, FUTEX_WAIT = 0, FUTEX_WAKE = 1 };

static int lock;
static volatile unsigned long guarded;
static unsigned long counted;
static int tids[THREADS];

static void acquire(void)
{
	int state = 0;
	if (__atomic_compare_exchange_n(&lock, &state, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return;
	while (__atomic_exchange_n(&lock, 2, __ATOMIC_ACQUIRE) != 0)
		call(SYS_futex, &lock, FUTEX_WAIT, 2, 0);
}

static void release(void)
{
	if (__atomic_exchange_n(&lock, 0, __ATOMIC_RELEASE) == 2)
		call(SYS_futex, &lock, FUTEX_WAKE, 1);
}

static void count(void *argument)
{
	(void)argument;
	for (int round = 0; round < ROUNDS; round++) {
		acquire();
		unsigned long value = guarded;
		if (round % 64 == 0)
			call(SYS_sched_yield, 0);
		guarded = value + 1;
		release();
		__atomic_fetch_add(&counted, 1, __ATOMIC_RELAXED);
	}
}

static void run_threads(void (*entry)(void *), char *arguments, size_t size)
{
	for (int i = 0; i < THREADS; i++) {
		char *stack = map(STACK);
		tids[i] = 1;
		require(start_thread(stack + STACK, entry, arguments + i * size, &tids[i]) > 0);
	}
	for (int i = 0; i < THREADS; i++) {
		int tid;
		while ((tid = __atomic_load_n(&tids[i], __ATOMIC_ACQUIRE)) != 0)
			call(SYS_futex, &tids[i], FUTEX_WAIT, tid, 0);
	}
}

void test_threads(void)
{
	run_threads(count, 0, 0);
	require(guarded == THREADS * ROUNDS);
	require(counted == THREADS * ROUNDS);
}

struct series {
	double seed, result;
};

/* The logistic map: chaotic, so that one wrong bit anywhere changes the end. Yields hand the registers over. */
static double logistic(double x, int yield)
{
	for (int i = 0; i < 20000; i++) {
		x = 3.99 * x * (1.0 - x);
		if (yield && i % 500 == 0)
			call(SYS_sched_yield, 0);
	}
	return x;
}

static void compute(void *argument)
{
	struct series *series = argument;
	series->result = logistic(series->seed, 1);
}

static double square_root(double x)
{
	double root;
	__asm__("fsqrt %d0, %d1" : "=w"(root) : "w"(x));
	return root;
}

void test_fp(void)
{
	static struct series series[THREADS];
	for (int i = 0; i < THREADS; i++)
		series[i].seed = 0.1 + i * 0.17;
	run_threads(compute, (char *)series, sizeof *series);
	for (int i = 0; i < THREADS; i++)
		require(series[i].result == logistic(series[i].seed, 0));
	double sum = 0;
	for (int i = 1; i <= 10000; i++)
		sum += 1.0 / ((double)i * i);
	require(sum > 1.644834071 && sum < 1.644834072);
	require(square_root(2.0) * square_root(2.0) > 1.9999999999 && square_root(1e300 * 1e300) > 1e308);
	uint64_t lanes[2];
	__asm__ volatile("movi v31.16b, #0x5a\n\tmov x9, #3\n\tins v31.d[1], x9\n\tst1 {v31.2d}, [%0]"
			 : : "r"(lanes) : "x9", "v31", "memory");
	require(lanes[0] == 0x5a5a5a5a5a5a5a5a && lanes[1] == 3);
}
