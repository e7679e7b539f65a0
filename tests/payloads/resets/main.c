/*
 * A Host that keeps its progress in non-volatile memory at 0x82800000 and is reset in every way. SPDX-License-Identifier: MIT
 *
 * Each boot checks that the machine is as new (memory, devices, no Realm), takes the next step, and is reset by it.
 */
#include "host.h"

#define NVM ((volatile uint64_t *)0x82800000UL)
#define MAGIC 0x70726f6772657373UL
#define SP805 0x1C0F0000UL
#define SBSA_CONTROL 0x2A440000UL
#define GICD 0x2F000000UL
#define PSCI_SYSTEM_RESET 0x84000009UL
#define PSCI_AFFINITY_INFO 0xC4000004UL
#define SCRATCH ((volatile uint64_t *)0x92000000UL)
#define GRANULE 0x91000000UL

enum { STEP = 1, PASSED, FAILED };

unsigned pes = 1;
static volatile uint64_t data_of_image = 0x1234;
void secondary_entry(void);

void host_secondary(unsigned pe)
{
    (void)pe;
    for (;;)
        __asm__ volatile("wfi");
}

void check(const char *name, int ok)
{
    print(ok ? "PASS  " : "FAIL  ");
    print(name);
    print("\n");
    NVM[ok ? PASSED : FAILED]++;
}

static uint64_t smc(uint64_t fid, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t x[8] = {fid, a, b, c};

    smc_call(x);
    return x[0];
}

static void as_new(void)
{
    check("memory outside the images is clear", *SCRATCH == 0);
    check("data of the image is as linked", data_of_image == 0x1234);
    check("no granule is delegated", smc(RMI_GRANULE_UNDELEGATE, GRANULE, 0, 0) == 1);
    check("and can be delegated", smc(RMI_GRANULE_DELEGATE, GRANULE, 0, 0) == 0);
    check("watchdogs are off", !*(volatile uint32_t *)(SP805 + 8) && !*(volatile uint32_t *)SBSA_CONTROL);
    check("distributor is off", !(*(volatile uint32_t *)GICD & 7));
    if (smc(PSCI_AFFINITY_INFO, 0x100, 0, 0) != (uint64_t)-2)
        check("second PE is off", smc(PSCI_AFFINITY_INFO, 0x100, 0, 0) == 1 &&
                                      smc(PSCI_CPU_ON, 0x100, (uint64_t)secondary_entry, 1) == 0);
    *SCRATCH = 1;
    data_of_image = 2;
}

static void wait_for_reset(void)
{
    for (;;)
        __asm__ volatile("wfi");
}

void host_main(void)
{
    volatile uint32_t *sp805 = (volatile uint32_t *)SP805;

    if (NVM[0] == ~0UL) {
        print("first boot\n");
        check("non-volatile memory is erased", NVM[STEP] == ~0UL && NVM[511] == ~0UL);
        NVM[0] = MAGIC;
        NVM[STEP] = NVM[PASSED] = NVM[FAILED] = 0;
    } else if (NVM[0] != MAGIC) {
        print("non-volatile memory holds something else\n");
        smc(PSCI_SYSTEM_OFF, 0, 0, 0);
    }
    as_new();
    print("step ");
    print_number(++NVM[STEP]);
    print("\n");
    gic_init_distributor();
    switch (NVM[STEP]) {
    case 1:
        smc(PSCI_SYSTEM_RESET, 0, 0, 0);
        break;
    case 2: /* the interrupt is not enabled in the GIC: the second expiry resets */
        sp805[0] = 3;
        sp805[2] = 3;
        wait_for_reset();
        break;
    case 3:
        *(volatile uint32_t *)(SBSA_CONTROL + 8) = 1000;
        *(volatile uint32_t *)SBSA_CONTROL = 1;
        wait_for_reset();
        break;
    case 4: /* while code runs that does not look */
        sp805[0] = 3;
        sp805[2] = 3;
        for (volatile unsigned i = 0;; i++)
            ;
    default:
        print_number(NVM[PASSED]);
        print(" passed, ");
        print_number(NVM[FAILED]);
        print(" failed\n");
        smc(PSCI_SYSTEM_OFF, 0, 0, 0);
    }
    check("reset", 0);
}
