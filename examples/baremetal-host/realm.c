/* Creates, runs and destroys Realms through RMI. SPDX-License-Identifier: MIT */
#include "host.h"

#define IPA_WIDTH 33UL
#define UNPROTECTED (1UL << (IPA_WIDTH - 1))
#define CODE 0x0UL
#define CALL_PAGE 0x1000UL
#define PAGES 5 /* code, host calls, configuration, shared page, one to spare */

extern uint8_t realm_start[], realm_end[];
static uint8_t params[PAGE] __attribute__((aligned(4096)));
static uint8_t run_page[PAGE] __attribute__((aligned(4096)));
static uint8_t zero_page[PAGE] __attribute__((aligned(4096)));
static uint32_t shared_page[PAGE / 4] __attribute__((aligned(4096)));

struct realm {
    uint64_t rd, rtt, rec[2], aux[2][16], aux_count;
    uint64_t l2[2], l3[2]; /* tables below the Protected and Unprotected half */
    uint64_t data[PAGES];
};

struct rmi_result rmi(uint64_t fid, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e)
{
    uint64_t x[8] = {fid, a, b, c, d, e};

    smc_call(x);
    return (struct rmi_result){x[0], x[1], x[2], x[3], x[4]};
}

static int ok(uint64_t fid, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e)
{
    return rmi(fid, a, b, c, d, e).status == 0;
}

static void clear(void *page)
{
    for (unsigned i = 0; i < PAGE / 8; i++)
        ((uint64_t *)page)[i] = 0;
}

static void put(void *page, unsigned offset, uint64_t value)
{
    *(volatile uint64_t *)((uint8_t *)page + offset) = value;
}

static uint64_t get(const void *page, unsigned offset)
{
    return *(volatile const uint64_t *)((const uint8_t *)page + offset);
}

static uint64_t delegated(unsigned count)
{
    uint64_t base = granules(count);
    int good = 1;

    for (unsigned i = 0; i < count; i++)
        good &= ok(RMI_GRANULE_DELEGATE, base + i * PAGE, 0, 0, 0, 0);
    return good ? base : 0;
}

/* IPA width 33 with a level 1 start: one table of 512 GB reach, two halves of 4 GB. */
static int create(struct realm *r, unsigned vmid)
{
    int good;

    *r = (struct realm){.rd = delegated(1), .rtt = delegated(1)};
    clear(params);
    put(params, 0x008, IPA_WIDTH);
    put(params, 0x018, 1); /* breakpoints - 1 */
    put(params, 0x020, 1); /* watchpoints - 1 */
    put(params, 0x800, vmid);
    put(params, 0x808, r->rtt);
    put(params, 0x810, 1);
    put(params, 0x818, 1);
    good = ok(RMI_REALM_CREATE, r->rd, (uint64_t)params, 0, 0, 0);
    for (unsigned half = 0; half < 2; half++) {
        uint64_t ipa = half ? UNPROTECTED : 0;

        r->l2[half] = delegated(1);
        r->l3[half] = delegated(1);
        good &= ok(RMI_RTT_CREATE, r->rd, r->l2[half], ipa, 2, 0);
        good &= ok(RMI_RTT_CREATE, r->rd, r->l3[half], ipa, 3, 0);
    }
    good &= ok(RMI_RTT_INIT_RIPAS, r->rd, 0, 0x6000, 0, 0);
    for (unsigned i = 0; i < PAGES; i++) {
        r->data[i] = delegated(1);
        good &= ok(RMI_DATA_CREATE, r->rd, r->data[i], i * PAGE, i ? (uint64_t)zero_page : (uint64_t)realm_start, 1);
    }
    r->aux_count = rmi(RMI_REC_AUX_COUNT, r->rd, 0, 0, 0, 0).x1;
    for (unsigned n = 0; n < 2; n++) {
        r->rec[n] = delegated(1);
        clear(params);
        put(params, 0x000, n == 0); /* runnable */
        put(params, 0x100, n);      /* MPIDR */
        put(params, 0x200, CODE);
        put(params, 0x800, r->aux_count);
        for (unsigned i = 0; i < r->aux_count; i++) {
            r->aux[n][i] = delegated(1);
            put(params, 0x808 + 8 * i, r->aux[n][i]);
        }
        good &= ok(RMI_REC_CREATE, r->rd, r->rec[n], (uint64_t)params, 0, 0);
    }
    return good;
}

static int released(uint64_t pa)
{
    return ok(RMI_GRANULE_UNDELEGATE, pa, 0, 0, 0, 0);
}

static int destroy(struct realm *r)
{
    int good = 1;

    for (unsigned n = 0; n < 2; n++) {
        good &= ok(RMI_REC_DESTROY, r->rec[n], 0, 0, 0, 0) && released(r->rec[n]);
        for (unsigned i = 0; i < r->aux_count; i++)
            good &= released(r->aux[n][i]);
    }
    for (uint64_t ipa = 0; ipa < 0x200000;) {
        struct rmi_result result = rmi(RMI_DATA_DESTROY, r->rd, ipa, 0, 0, 0);

        if (result.status == 0)
            good &= released(result.x1);
        else if ((result.status & 0xff) != 4 || result.x2 <= ipa)
            return 0;
        ipa = result.x2;
    }
    for (unsigned half = 0; half < 2; half++) {
        uint64_t ipa = half ? UNPROTECTED : 0;

        good &= ok(RMI_RTT_DESTROY, r->rd, ipa, 3, 0, 0) && released(r->l3[half]);
        good &= ok(RMI_RTT_DESTROY, r->rd, ipa, 2, 0, 0) && released(r->l2[half]);
    }
    return good && ok(RMI_REALM_DESTROY, r->rd, 0, 0, 0, 0) && released(r->rtt) && released(r->rd);
}

static uint64_t enter(const struct realm *r, unsigned n)
{
    return rmi(RMI_REC_ENTER, r->rec[n], (uint64_t)run_page, 0, 0, 0).status;
}

/* Enters until the Realm makes a host call; answers memory faults on the way. Returns the number of that call. */
static uint64_t run_to_call(struct realm *r, unsigned n)
{
    for (;;) {
        if (enter(r, n) != 0)
            return ~0UL;
        if (get(run_page, RUN_REASON) == EXIT_HOST_CALL)
            return get(run_page, RUN_IMM) & 0xffff;
        if (get(run_page, RUN_REASON) != EXIT_IRQ)
            return ~0UL - get(run_page, RUN_REASON);
    }
}

static uint64_t call_argument(unsigned n)
{
    return get(run_page, RUN_EXIT_GPRS + 8 * n);
}

static void ripas_changes(struct realm *r)
{
    int good = 1;

    for (unsigned i = 0; i < 2; i++) {
        struct rmi_result result;

        good &= enter(r, 0) == 0 && get(run_page, RUN_REASON) == EXIT_RIPAS;
        good &= get(run_page, RUN_RIPAS_BASE) == 0x3000 && get(run_page, RUN_RIPAS_VALUE) == i;
        result = rmi(RMI_RTT_SET_RIPAS, r->rd, r->rec[0], 0x3000, get(run_page, RUN_RIPAS_TOP), 0);
        good &= result.status == 0 && result.x1 == 0x4000;
    }
    check("RIPAS changed to EMPTY and back to RAM", good);
    check("Realm saw the progress", run_to_call(r, 0) == 2 && call_argument(0) == 0x4000 && call_argument(1) == 0x4000);
}

static void on_demand(struct realm *r)
{
    uint64_t page = delegated(1), ipa;

    check("data abort for memory never populated", enter(r, 0) == 0 && get(run_page, RUN_REASON) == EXIT_SYNC);
    ipa = (get(run_page, RUN_HPFAR) & ~15UL) << 8;
    check("fault address reported", ipa == 0x5000 && (get(run_page, RUN_ESR) & (1UL << 24)) == 0);
    check("RMI_DATA_CREATE_UNKNOWN", ok(RMI_DATA_CREATE_UNKNOWN, r->rd, page, ipa, 0, 0));
    check("memory on demand works", run_to_call(r, 0) == 3 && call_argument(0) == 0x600d600d600d600dUL);
}

static void emulated_device(struct realm *r)
{
    int good = enter(r, 0) == 0 && get(run_page, RUN_REASON) == EXIT_SYNC;
    uint64_t esr = get(run_page, RUN_ESR);

    good &= (esr >> 24 & 1) && (esr >> 6 & 1) && get(run_page, RUN_EXIT_GPRS) == 0x5a;
    put(run_page, RUN_FLAGS, 1);
    good &= enter(r, 0) == 0 && get(run_page, RUN_REASON) == EXIT_SYNC && !(get(run_page, RUN_ESR) >> 6 & 1);
    good &= get(run_page, RUN_FAR) == 4;
    put(run_page, RUN_ENTER_GPRS, 0xa5);
    good &= run_to_call(r, 0) == 4;
    put(run_page, RUN_FLAGS, 0);
    check("device access emulated", good && call_argument(0) == 0xa5);
}

static void timer_while_running(struct realm *r)
{
    uint64_t ipa = UNPROTECTED + 0x8000;
    unsigned before = irqs_seen[0][26];
    struct rmi_result entry;
    uint64_t desc = (uint64_t)shared_page | 6 << 2 | 3 << 6;

    check("RMI_RTT_MAP_UNPROTECTED", ok(RMI_RTT_MAP_UNPROTECTED, r->rd, ipa, 3, desc, 0));
    entry = rmi(RMI_RTT_READ_ENTRY, r->rd, ipa, 3, 0, 0);
    check("RMI_RTT_READ_ENTRY", entry.status == 0 && entry.x1 == 3 && entry.x2 == 1 && entry.x3 == desc);
    arm_timer(100000);
    check("Host timer makes the REC exit",
          enter(r, 0) == 0 && get(run_page, RUN_REASON) == EXIT_IRQ && irqs_seen[0][26] == before + 1);
    check("Realm writes Non-secure memory", shared_page[0] == 1);
    ((volatile uint32_t *)shared_page)[1] = 1;
    check("Realm reads Non-secure memory", run_to_call(r, 0) == 5 && call_argument(0) == 1);
    check("RMI_RTT_UNMAP_UNPROTECTED", ok(RMI_RTT_UNMAP_UNPROTECTED, r->rd, ipa, 3, 0, 0));
}

static void second_vcpu(struct realm *r)
{
    put(run_page, RUN_FLAGS, 4); /* trap WFI */
    check("WFI trapped", enter(r, 0) == 0 && get(run_page, RUN_REASON) == EXIT_SYNC && get(run_page, RUN_ESR) >> 26 == 1);
    put(run_page, RUN_FLAGS, 0);
    check("PSCI CPU_ON exits", enter(r, 0) == 0 && get(run_page, RUN_REASON) == EXIT_PSCI);
    check("re-entry refused while pending", enter(r, 0) == 3);
    check("RMI_PSCI_COMPLETE", ok(RMI_PSCI_COMPLETE, r->rec[0], r->rec[1], 0, 0, 0));
    check("CPU_ON succeeded", run_to_call(r, 0) == 6 && call_argument(0) == 0);
    check("second VCPU runs", run_to_call(r, 1) == 9 && call_argument(0) == 0x77);
    check("second VCPU goes off", enter(r, 1) == 0 && get(run_page, RUN_REASON) == EXIT_PSCI && enter(r, 1) == 3);
}

static void round_trips(struct realm *r)
{
    uint64_t start, count = 200;

    if (run_to_call(r, 0) != 7) {
        check("round trips", 0);
        return;
    }
    put(run_page, RUN_ENTER_GPRS, count);
    start = counter();
    for (uint64_t i = 0; i < count; i++)
        if (run_to_call(r, 0) != 8)
            check("round trip", 0);
    measure("REC entry and exit", counter() - start, count);
}

static void isolation(struct realm *r)
{
    unsigned before = aborts_seen;
    volatile uint64_t *target = (volatile uint64_t *)r->data[0];
    uint64_t value = 0;

    __asm__ volatile("ldr %0, [%1]" : "+r"(value) : "r"(target) : "memory");
    check("read of a Realm granule faults (GPF)", aborts_seen == before + 1 && (last_abort_esr & 63) == 0x28 && !value);
    __asm__ volatile("str %0, [%1]" ::"r"(~0UL), "r"(target) : "memory");
    check("write of a Realm granule faults (GPF)", aborts_seen == before + 2 && (last_abort_esr & 63) == 0x28);
    check("execution of a Realm granule faults (GPF)",
          execute_at(r->data[0]) == 1 && aborts_seen == before + 3 && (last_abort_esr & 63) == 0x28);
}

static void tables(struct realm *r)
{
    uint64_t spare = delegated(1), base = granules(1024);
    struct rmi_result fold;
    int good = 1;

    base = (base + 0x1fffff) & ~0x1fffffUL;
    good &= ok(RMI_RTT_CREATE, r->rd, spare, 0x200000, 3, 0);
    for (unsigned i = 0; i < 512; i++) {
        good &= ok(RMI_GRANULE_DELEGATE, base + i * PAGE, 0, 0, 0, 0);
        good &= ok(RMI_DATA_CREATE_UNKNOWN, r->rd, base + i * PAGE, 0x200000 + i * PAGE, 0, 0);
    }
    fold = rmi(RMI_RTT_FOLD, r->rd, 0x200000, 3, 0, 0);
    check("RMI_RTT_FOLD to a 2 MB block", good && fold.status == 0 && fold.x1 == spare);
    good = ok(RMI_RTT_CREATE, r->rd, spare, 0x200000, 3, 0);
    for (unsigned i = 0; i < 512; i++) {
        struct rmi_result gone = rmi(RMI_DATA_DESTROY, r->rd, 0x200000 + i * PAGE, 0, 0, 0);

        good &= gone.status == 0 && gone.x1 == base + i * PAGE && released(gone.x1);
    }
    good &= ok(RMI_RTT_DESTROY, r->rd, 0x200000, 3, 0, 0) && released(spare);
    check("block unfolded, destroyed and returned", good);
}

static void refusals(struct realm *r)
{
    check("refused: unaligned granule", rmi(RMI_GRANULE_DELEGATE, 0x90000001, 0, 0, 0, 0).status == 1);
    check("refused: device memory", rmi(RMI_GRANULE_DELEGATE, 0x1C0B0000, 0, 0, 0, 0).status == 1);
    check("refused: delegated twice", rmi(RMI_GRANULE_DELEGATE, r->rd, 0, 0, 0, 0).status == 1);
    check("refused: undelegate a Realm's RD", rmi(RMI_GRANULE_UNDELEGATE, r->rd, 0, 0, 0, 0).status == 1);
    check("refused: Realm that is live", rmi(RMI_REALM_DESTROY, r->rd, 0, 0, 0, 0).status == 2);
    check("refused: unknown RMI function", rmi(RMI(0x3E), 0, 0, 0, 0, 0).status == ~0UL);
}

void realm_tests(void)
{
    struct realm r;
    struct rmi_result version = rmi(RMI_VERSION, 0x10000, 0, 0, 0, 0);

    check("RMI_VERSION 1.0", version.status == 0 && version.x1 == 0x10000);
    check("RMI_FEATURES", (rmi(RMI_FEATURES, 0, 0, 0, 0, 0).x1 & 0xff) >= IPA_WIDTH);
    check("Realm created", create(&r, 1));
    tables(&r);
    clear(run_page);
    check("refused: entry before activation", enter(&r, 0) == 2);
    check("RMI_REALM_ACTIVATE", ok(RMI_REALM_ACTIVATE, r.rd, 0, 0, 0, 0));
    check("Realm says hello", run_to_call(&r, 0) == 1 && call_argument(0) == 0x10000);
    ripas_changes(&r);
    on_demand(&r);
    emulated_device(&r);
    timer_while_running(&r);
    second_vcpu(&r);
    round_trips(&r);
    isolation(&r);
    refusals(&r);
    check("Realm powers off", enter(&r, 0) == 0 && get(run_page, RUN_REASON) == EXIT_PSCI);
    check("refused: entry after power off", enter(&r, 0) == 0x102);
    check("Realm destroyed, all granules returned", destroy(&r));
}

/* Realms one after another, each run to its first host call. */
void realm_lifecycle(unsigned count)
{
    uint64_t start = counter();
    int good = 1;

    for (unsigned i = 0; i < count; i++) {
        struct realm r;

        granules_reset();
        good &= create(&r, i + 1) && ok(RMI_REALM_ACTIVATE, r.rd, 0, 0, 0, 0);
        clear(run_page);
        good &= run_to_call(&r, 0) == 1 && destroy(&r);
    }
    check("Realms created and destroyed one after another", good);
    measure("Realm life cycle", counter() - start, count);
}
