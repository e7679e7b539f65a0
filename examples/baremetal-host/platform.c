/* Console, translation tables, interrupts and exceptions of the example Host. SPDX-License-Identifier: MIT */
#include "host.h"

#define UART 0x1C0B0000UL /* UART2 */
#define GICD 0x2F000000UL
#define GICR 0x2F100000UL
#define AF (1UL << 10)
#define INNER (3UL << 8)
#define DEVICE (1UL << 2)
#define XN (1UL << 54)

typedef uint64_t table[512] __attribute__((aligned(4096)));

table table_l0;
static table table_l1;
uint8_t stacks[(MAX_PES + 1) * 0x4000] __attribute__((aligned(16)));
volatile unsigned irqs_seen[MAX_PES][32];
volatile unsigned aborts_seen;
volatile uint64_t last_abort_esr;
int (*exception_hook)(uint64_t kind, uint64_t esr, uint64_t elr, uint64_t far, uint64_t *advance);
extern char execute_at_resume[];

/* One terabyte would need T0SZ 24: level 0 has two entries, the first covers all that this Host uses. */
void build_tables(void)
{
    for (unsigned i = 0; i < 512; i++) {
        uint64_t base = (uint64_t)i << 30;
        int dram = (i >= 2 && i < 4) || i >= 34;

        table_l1[i] = base | AF | 1UL | (dram ? INNER : DEVICE | XN);
    }
    table_l0[0] = (uint64_t)table_l1 | 3UL;
}

void print(const char *text)
{
    volatile uint32_t *uart = (volatile uint32_t *)UART;

    for (; *text; text++)
        uart[0] = (uint32_t)(uint8_t)*text;
}

void print_number(uint64_t value)
{
    char digits[21];
    int n = 20;

    digits[n] = 0;
    do {
        digits[--n] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    print(digits + n);
}

void print_hex(uint64_t value)
{
    char digits[19] = "0x";
    int n = 2;

    for (int shift = 60; shift >= 0; shift -= 4)
        if (value >> shift || !shift)
            digits[n++] = "0123456789abcdef"[value >> shift & 15];
    digits[n] = 0;
    print(digits);
}

uint64_t counter(void)
{
    uint64_t value;

    __asm__ volatile("isb\n mrs %0, cntpct_el0" : "=r"(value)::"memory");
    return value;
}

void gic_init_distributor(void)
{
    *(volatile uint32_t *)GICD = 0x12; /* ARE_NS, EnableGrp1 */
}

void gic_init_pe(unsigned pe)
{
    volatile uint32_t *rd = (volatile uint32_t *)(GICR + pe * 0x20000UL);

    rd[0x14 / 4] &= ~2U;
    while (rd[0x14 / 4] & 4U)
        ;
    rd[0x10080 / 4] = 0xffffffff;              /* group 1 */
    for (unsigned i = 0; i < 8; i++)
        rd[0x10400 / 4 + i] = 0x80808080;      /* priorities */
    rd[0x10100 / 4] = 1U << 26 | 0xffffU;      /* EL2 physical timer, SGIs */
    __asm__ volatile("msr daifclr, #2\n isb");
}

void arm_timer(uint64_t ticks)
{
    __asm__ volatile("msr cnthp_cval_el2, %0" ::"r"(counter() + ticks));
    __asm__ volatile("msr cnthp_ctl_el2, %0\n isb" ::"r"(1UL));
}

static unsigned this_pe(void)
{
    uint64_t mpidr;

    __asm__("mrs %0, mpidr_el1" : "=r"(mpidr));
    return (unsigned)((mpidr >> 16 & 1) * 4 + (mpidr >> 8 & 3));
}

/* Returns what to add to ELR_EL2. Aborts are expected only where a test provokes them: the instruction is skipped. */
uint64_t on_exception(uint64_t kind, uint64_t esr, uint64_t elr, uint64_t far)
{
    uint64_t class = esr >> 26 & 63, advance = 0;

    if (exception_hook && exception_hook(kind, esr, elr, far, &advance))
        return advance;
    if (kind == 5) {
        uint64_t intid;

        __asm__ volatile("mrs %0, S3_0_C12_C12_0" : "=r"(intid));
        if (intid == 26)
            __asm__ volatile("msr cnthp_ctl_el2, %0" ::"r"(2UL));
        if (intid < 32)
            irqs_seen[this_pe()][intid]++;
        if (intid < 1020)
            __asm__ volatile("msr S3_0_C12_C12_1, %0\n isb" ::"r"(intid));
        return 0;
    }
    if (kind == 4 && class == 0x25) { /* data abort, same level */
        aborts_seen++;
        last_abort_esr = esr;
        return 4;
    }
    if (kind == 4 && class == 0x21) { /* instruction abort, same level: only execute_at branches astray */
        aborts_seen++;
        last_abort_esr = esr;
        return (uint64_t)execute_at_resume - elr;
    }
    print("unexpected exception: vector ");
    print_number(kind);
    print(" esr ");
    print_hex(esr);
    print(" elr ");
    print_hex(elr);
    print(" far ");
    print_hex(far);
    print("\n");
    check("no unexpected exception", 0);
    for (;;) {
        uint64_t x[8] = {PSCI_SYSTEM_OFF};
        smc_call(x);
    }
}

/* The compiler may call this one for structures that it clears. */
void *memset(void *to, int value, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ((volatile uint8_t *)to)[i] = (uint8_t)value;
    return to;
}
