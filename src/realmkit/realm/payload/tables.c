/* Stage 1 translation tables of the payload. SPDX-License-Identifier: MIT */
#include "payload.h"

#define VALID 1UL
#define TABLE 3UL
#define PAGE_DESC 3UL
#define AF (1UL << 10)
#define INNER (3UL << 8)
#define READ_ONLY (1UL << 7)
#define UXN (1UL << 54)
#define PXN (1UL << 53)
#define NORMAL (0UL << 2)
#define DEVICE (1UL << 2)

typedef uint64_t table[512] __attribute__((aligned(4096)));

table table_l1;
static table table_l2;
static table table_l3;
extern char __text_end[];

/* RAM window: 2 MB blocks that may not be executed, but for the first, which is split to make code read-only. */
uint64_t build_tables(void)
{
    for (unsigned i = 0; i < 512; i++)
        table_l2[i] = (RAM_WINDOW + ((uint64_t)i << 21)) | AF | INNER | NORMAL | UXN | PXN | VALID;
    for (unsigned i = 0; i < 512; i++) {
        uint64_t page = RAM_WINDOW + ((uint64_t)i << 12);
        uint64_t rights = page < (uint64_t)__text_end ? READ_ONLY | UXN : UXN | PXN;

        table_l3[i] = page | AF | INNER | NORMAL | rights | PAGE_DESC;
    }
    table_l2[0] = (uint64_t)table_l3 | TABLE;
    table_l1[2] = (uint64_t)table_l2 | TABLE;
    return (uint64_t)table_l1;
}

/* The Unprotected half becomes reachable once the Realm knows how wide its IPA space is. */
void map_unprotected(void)
{
    table_l1[VA_DEVICES >> 30] = shared_bit | AF | DEVICE | UXN | PXN | VALID;
    table_l1[VA_SHARED >> 30] = (shared_bit + RAM_WINDOW) | AF | INNER | NORMAL | UXN | PXN | VALID;
    __asm__ volatile("dsb ishst\n isb" ::: "memory");
}
