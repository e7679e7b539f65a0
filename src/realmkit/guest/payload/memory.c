/* 64 MB of anonymous memory: written, read back with a checksum, given back and used again. */
#include "system.h"

enum { SIZE = 64 << 20, WORDS = SIZE / 8 };

void test_memory(void)
{
	uint64_t *memory = map(SIZE), state = 42, expected = 0, found = 0;
	for (size_t i = 0; i < WORDS; i += 32768)
		require(memory[i] == 0);
	for (size_t i = 0; i < WORDS; i++) {
		memory[i] = mix(&state);
		expected += memory[i] ^ i;
	}
	state = 42;
	for (size_t i = 0; i < WORDS; i++) {
		require(memory[i] == mix(&state));
		found += memory[i] ^ i;
	}
	require(found == expected);
	require(call(SYS_munmap, memory, SIZE) == 0);
	memory = map(SIZE / 8);
	for (size_t i = 0; i < WORDS / 8; i++)
		require(memory[i] == 0);
	/* Copy on write: the child's stores are its own. */
	memory[7] = 1;
	long pid = fork_process();
	if (pid == 0) {
		memory[7] = 2;
		call(SYS_exit_group, memory[7] == 2 ? 0 : 1);
	}
	require(wait_for(pid) == 0 && memory[7] == 1);
}
