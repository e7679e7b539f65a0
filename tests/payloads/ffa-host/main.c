/* A Host that talks to the Secure partition by FF-A direct messages. SPDX-License-Identifier: MIT */
#include "host.h"

#define REQUEST32 0x8400006FUL
#define REQUEST64 0xC400006FUL
#define ENDPOINTS 0x8001UL /* from 0 to the partition */

unsigned pes = 1;
static unsigned passed, failed;
static volatile uint64_t second_result, second_done;
void secondary_entry(void);

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

static uint64_t x[8];

static void call(uint64_t fid, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    x[0] = fid;
    x[1] = a;
    x[2] = b;
    x[3] = c;
    x[4] = d;
    x[5] = x[6] = x[7] = 0;
    smc_call(x);
}

static int is_error(int code)
{
    return x[0] == 0x84000060 && (int)x[2] == code;
}

static int answered(uint64_t value)
{
    return x[0] == 0xC4000070 && x[1] == 0x80010000UL && !x[2] && x[4] == value && x[6] == 0x66 && x[7] == 0x77;
}

void host_secondary(unsigned pe)
{
    uint64_t y[8] = {REQUEST64, ENDPOINTS, 0, 0, pe};

    smc_call(y);
    second_result = y[4];
    second_done = 1;
    __asm__ volatile("dsb sy\n sev");
    for (;;)
        __asm__ volatile("wfi");
}

void host_main(void)
{
    call(0x84000063, 0x10001, 0, 0, 0);
    check("FFA_VERSION 1.1", x[0] == 0x10001);
    call(0x84000069, 0, 0, 0, 0);
    check("FFA_ID_GET", x[0] == 0x84000061 && x[2] == 0);
    call(0x84000085, 0, 0, 0, 0);
    check("FFA_SPM_ID_GET", x[0] == 0x84000061 && x[2] == 0x8000);
    call(0x84000064, REQUEST32, 0, 0, 0);
    check("FFA_FEATURES", x[0] == 0x84000061);
    call(0x84000064, 0x8400007F, 0, 0, 0);
    check("FFA_FEATURES of nothing", is_error(-1));
    call(0x8400007F, 0, 0, 0, 0);
    check("function that is not there", is_error(-1));
    call(REQUEST64, ENDPOINTS, 0, 0, 0x1234567890ABCDEFUL);
    check("direct message", answered(0x1234567890ABCDF0UL));
    call(REQUEST32, ENDPOINTS, 0, 0, 0x1234567890ABCDEFUL);
    check("direct message of 32 bits", x[0] == 0x84000070 && x[4] == 0x90ABCDF0UL);
    call(REQUEST64, ENDPOINTS, 0, 1, 7);
    check("Secure memory is kept", answered(0x5ec4e7));
    call(REQUEST64, ENDPOINTS, 0, 1, 8);
    check("between messages", answered(7));
    call(REQUEST64, ENDPOINTS, 0, 4, 0);
    check("the partition knows itself", answered(0x8001) && x[5] == 0x10001);
    call(REQUEST64, ENDPOINTS, 0, 3, 0);
    check("the partition cannot misbehave", answered((uint64_t)-6) && x[5] == (uint64_t)-2);
    call(REQUEST64, ENDPOINTS + 1, 0, 0, 0);
    check("message to nobody", is_error(-2));
    call(REQUEST64, 0x18001, 0, 0, 0);
    check("message from somebody else", is_error(-2));
    call(REQUEST64, ENDPOINTS, 1UL << 31, 0, 0);
    check("framework message", is_error(-2));
    call(0x84000070, 0x80010000UL, 0, 0, 0);
    check("answer to nothing", is_error(-1));

    /* Isolation: MMU off, the partition's accesses are to the Secure physical address space. */
    *(volatile uint64_t *)0x90000000UL = 0x55;
    call(REQUEST64, ENDPOINTS, 0, 2, 0x90000000UL);
    check("Non-secure memory is not Secure memory", x[5] == 1 && x[4] == 0x28);
    call(RMI_GRANULE_DELEGATE, 0x90000000UL, 0, 0, 0);
    call(REQUEST64, ENDPOINTS, 0, 2, 0x90000000UL);
    check("Realm memory is not Secure memory", x[5] == 1 && x[4] == 0x28);
    call(REQUEST64, ENDPOINTS, 0, 2, 0x1000);
    check("Root memory is not Secure memory", x[5] == 1 && x[4] == 0x28);

    unsigned before = aborts_seen;
    uint64_t value = 0;

    __asm__ volatile("ldr %0, [%1]" : "+r"(value) : "r"(0x06100000UL) : "memory");
    check("the Host cannot read the partition", aborts_seen == before + 1 && (last_abort_esr & 63) == 0x28 && !value);
    call(0x84000063, 0x80000000UL, 0, 0, 0);
    check("FFA_VERSION with bit 31", x[0] == ~0UL);

    call(PSCI_CPU_ON, 0x100, (uint64_t)secondary_entry, 1, 0);
    if (x[0] == 0) {
        pes = 2;
        while (!second_done)
            __asm__ volatile("wfe");
        check("direct message of another PE", second_result == 2);
    }
    print_number(passed);
    print(" passed, ");
    print_number(failed);
    print(" failed\n");
    call(PSCI_SYSTEM_OFF, 0, 0, 0, 0);
}
