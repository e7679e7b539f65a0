/*
 * An example Host for NS-EL2: turns its MMU on, takes interrupts, starts the other PEs, runs a Realm whose code it carries,
 * exercises RMI and measures it in counter ticks. SPDX-License-Identifier: MIT
 */
#include "host.h"

unsigned pes = 1;
static volatile unsigned online;
static volatile unsigned work[MAX_PES];
static unsigned passed, failed;
static uint64_t next_granule;

#define GRANULE_POOL 0x90000000UL

uint64_t granules(unsigned count)
{
    uint64_t base = next_granule;

    next_granule += count * PAGE;
    return base;
}

uint64_t granule(void)
{
    return granules(1);
}

void granules_reset(void)
{
    next_granule = GRANULE_POOL;
}

void check(const char *name, int ok)
{
    print(ok ? "PASS  " : "FAIL  ");
    print(name);
    print("\n");
    if (ok)
        passed++;
    else
        failed++;
}

void measure(const char *name, uint64_t ticks, uint64_t count)
{
    print("TIME  ");
    print(name);
    print(": ");
    print_number(ticks / count);
    print(" ticks each, ");
    print_number(count);
    print(" times\n");
}

static uint64_t mpidr_of(unsigned pe)
{
    return (pe / 4) << 16 | (pe % 4) << 8;
}

/* Each PE counts under exclusives, delegates granules of its own, and waits for an SGI. */
void host_secondary(unsigned pe)
{
    uint64_t own = 0xA0000000UL + pe * 0x100000UL;
    int good = 1;

    gic_init_pe(pe);
    for (unsigned i = 0; i < 64; i++) {
        good &= rmi(RMI_GRANULE_DELEGATE, own + i * PAGE, 0, 0, 0, 0).status == 0;
        good &= rmi(RMI_GRANULE_UNDELEGATE, own + i * PAGE, 0, 0, 0, 0).status == 0;
    }
    work[pe] = good ? 1 : 2;
    for (unsigned i = 0; i < 1000; i++)
        __atomic_fetch_add(&online, 1, __ATOMIC_SEQ_CST);
    __asm__ volatile("dsb sy\n sev");
    while (!irqs_seen[pe][1])
        __asm__ volatile("wfi");
    work[pe] |= 4;
    __asm__ volatile("dsb sy\n sev");
    for (;;)
        __asm__ volatile("wfi");
}

void secondary_entry(void);

static void start_others(void)
{
    int good = 1;

    for (unsigned pe = 1; pe < MAX_PES; pe++) {
        uint64_t x[8] = {PSCI_CPU_ON, mpidr_of(pe), (uint64_t)secondary_entry, pe};

        smc_call(x);
        if (x[0] == 0)
            pes = pe + 1;
        else
            good &= x[0] == (uint64_t)-2; /* no such PE */
    }
    check("PEs started by PSCI CPU_ON", good);
    while (online < (pes - 1) * 1000)
        __asm__ volatile("wfe");
    check("exclusive counter of all PEs", online == (pes - 1) * 1000);
    for (unsigned pe = 1; pe < pes; pe++) {
        uint64_t sgi = 1UL << 24 | mpidr_of(pe) >> 16 << 32 | (mpidr_of(pe) >> 8 & 255) << 16 | 1;

        __asm__ volatile("dsb sy\n msr S3_0_C12_C11_5, %0\n isb" ::"r"(sgi)); /* ICC_SGI1R_EL1 */
        while (!(work[pe] & 4))
            __asm__ volatile("wfe");
        good &= work[pe] == 5;
    }
    check("every PE delegated, undelegated and took an SGI", good);
}

static void latency(void)
{
    uint64_t start = counter();

    for (unsigned i = 0; i < 1000; i++)
        rmi(RMI_VERSION, 0x10000, 0, 0, 0, 0);
    measure("RMI_VERSION", counter() - start, 1000);
    start = counter();
    for (unsigned i = 0; i < 256; i++) {
        rmi(RMI_GRANULE_DELEGATE, 0xB0000000UL + i * PAGE, 0, 0, 0, 0);
        rmi(RMI_GRANULE_UNDELEGATE, 0xB0000000UL + i * PAGE, 0, 0, 0, 0);
    }
    measure("delegate and undelegate", counter() - start, 256);
}

void host_main(void)
{
    uint64_t x[8] = {PSCI_VERSION};
    unsigned before;

    granules_reset();
    print("realmkit example Host at NS-EL2\n");
    gic_init_distributor();
    gic_init_pe(0);
    smc_call(x);
    check("PSCI version 1.1", x[0] == 0x10001);
    before = irqs_seen[0][26];
    arm_timer(1000);
    while (irqs_seen[0][26] == before)
        __asm__ volatile("wfi");
    check("EL2 timer interrupt", 1);
    start_others();
    realm_tests();
    realm_lifecycle(8);
    latency();
    print_number(passed);
    print(" passed, ");
    print_number(failed);
    print(" failed, ");
    print_number(pes);
    print(pes == 1 ? " PE\n" : " PEs\n");
    x[0] = PSCI_SYSTEM_OFF;
    smc_call(x);
}
