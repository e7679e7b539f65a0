/*
 * A Host that does much of one thing, as the parameters at 0x8F000000 say. SPDX-License-Identifier: MIT
 *
 * Parameters, 64-bit words: kind, Realms, data pages of each, VCPUs of each, entries of each VCPU.
 * Kind 0: Realms one after another. Kind 1: all alive at once. Kind 2: RMI_VERSION, "entries" times.
 */
#include "host.h"

#define PARAMETERS 0x8F000000UL
#define POOL 0x90000000UL
#define REALM_BYTES 0x01000000UL /* granules of a Realm lie in 16 MB of their own */
#define IPA_WIDTH 33UL
#define CALL_PAGES 5 /* code, and host calls of up to 64 VCPUs */

extern uint8_t realm_start[];
static uint8_t params[PAGE] __attribute__((aligned(4096)));
static uint8_t run_page[PAGE] __attribute__((aligned(4096)));
static uint8_t zero_page[PAGE] __attribute__((aligned(4096)));
static uint64_t calls;
static unsigned passed, failed;
unsigned pes = 1;

void host_secondary(unsigned pe)
{
    (void)pe;
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

struct rmi_result rmi(uint64_t fid, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e)
{
    uint64_t x[8] = {fid, a, b, c, d, e};

    calls++;
    smc_call(x);
    return (struct rmi_result){x[0], x[1], x[2], x[3], x[4]};
}

static int ok(uint64_t fid, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e)
{
    return rmi(fid, a, b, c, d, e).status == 0;
}

static uint64_t parameter(unsigned n)
{
    return ((volatile uint64_t *)PARAMETERS)[n];
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

/* Granules of a Realm in the order of their use: RD, RTT, two tables, tables of data, RECs with auxiliaries, data. */
struct realm {
    uint64_t rd, next, aux_count, recs[64], vcpus, pages;
};

static uint64_t delegated(struct realm *r)
{
    uint64_t pa = r->next;

    r->next += PAGE;
    return ok(RMI_GRANULE_DELEGATE, pa, 0, 0, 0, 0) ? pa : 0;
}

static int create(struct realm *r, unsigned vmid, uint64_t pages, uint64_t vcpus)
{
    uint64_t rtt, tables = 1 + (CALL_PAGES + pages - 1) / 512;
    int good;

    r->next = POOL + vmid * REALM_BYTES;
    r->vcpus = vcpus;
    r->pages = pages;
    r->rd = delegated(r);
    rtt = delegated(r);
    clear(params);
    put(params, 0x008, IPA_WIDTH);
    put(params, 0x018, 1);
    put(params, 0x020, 1);
    put(params, 0x800, vmid);
    put(params, 0x808, rtt);
    put(params, 0x810, 1);
    put(params, 0x818, 1);
    good = ok(RMI_REALM_CREATE, r->rd, (uint64_t)params, 0, 0, 0);
    good &= ok(RMI_RTT_CREATE, r->rd, delegated(r), 0, 2, 0);
    for (uint64_t i = 0; i < tables; i++)
        good &= ok(RMI_RTT_CREATE, r->rd, delegated(r), i << 21, 3, 0);
    good &= ok(RMI_RTT_INIT_RIPAS, r->rd, 0, (CALL_PAGES + pages) * PAGE, 0, 0);
    for (uint64_t i = 0; i < CALL_PAGES; i++)
        good &= ok(RMI_DATA_CREATE, r->rd, delegated(r), i * PAGE, i ? (uint64_t)zero_page : (uint64_t)realm_start, 1);
    for (uint64_t i = 0; i < pages; i++)
        good &= ok(RMI_DATA_CREATE_UNKNOWN, r->rd, delegated(r), (CALL_PAGES + i) * PAGE, 0, 0);
    r->aux_count = rmi(RMI_REC_AUX_COUNT, r->rd, 0, 0, 0, 0).x1;
    for (uint64_t n = 0; n < vcpus; n++) {
        r->recs[n] = delegated(r);
        clear(params);
        put(params, 0x000, 1);
        put(params, 0x100, (n & 15) | (n >> 4) << 8); /* 16 VCPUs to a cluster */
        put(params, 0x300, n);                        /* X0 */
        put(params, 0x800, r->aux_count);
        for (uint64_t i = 0; i < r->aux_count; i++)
            put(params, 0x808 + 8 * i, delegated(r));
        good &= ok(RMI_REC_CREATE, r->rd, r->recs[n], (uint64_t)params, 0, 0);
    }
    return good && ok(RMI_REALM_ACTIVATE, r->rd, 0, 0, 0, 0);
}

static int run(struct realm *r, uint64_t entries)
{
    int good = 1;

    clear(run_page);
    for (uint64_t i = 0; i < entries; i++)
        for (uint64_t n = 0; n < r->vcpus; n++) {
            good &= ok(RMI_REC_ENTER, r->recs[n], (uint64_t)run_page, 0, 0, 0);
            good &= get(run_page, RUN_REASON) == EXIT_HOST_CALL && get(run_page, RUN_IMM) == n;
        }
    return good;
}

static int destroy(struct realm *r, unsigned vmid)
{
    uint64_t tables = 1 + (CALL_PAGES + r->pages - 1) / 512;
    int good = 1;

    for (uint64_t n = 0; n < r->vcpus; n++)
        good &= ok(RMI_REC_DESTROY, r->recs[n], 0, 0, 0, 0);
    for (uint64_t i = 0; i < CALL_PAGES + r->pages; i++)
        good &= ok(RMI_DATA_DESTROY, r->rd, i * PAGE, 0, 0, 0);
    for (uint64_t i = 0; i < tables; i++)
        good &= ok(RMI_RTT_DESTROY, r->rd, i << 21, 3, 0, 0);
    good &= ok(RMI_RTT_DESTROY, r->rd, 0, 2, 0, 0);
    good &= ok(RMI_REALM_DESTROY, r->rd, 0, 0, 0, 0);
    for (uint64_t pa = POOL + vmid * REALM_BYTES; pa < r->next; pa += PAGE)
        good &= ok(RMI_GRANULE_UNDELEGATE, pa, 0, 0, 0, 0);
    return good;
}

static void one_after_another(void)
{
    int good = 1;

    for (unsigned i = 0; i < parameter(1); i++) {
        struct realm r;

        good &= create(&r, 1, parameter(2), parameter(3));
        good &= run(&r, parameter(4));
        good &= destroy(&r, 1);
    }
    check("Realms one after another", good);
}

static struct realm alive[100];

static void at_once(void)
{
    int good = 1;

    for (unsigned i = 0; i < parameter(1); i++)
        good &= create(&alive[i], i + 1, parameter(2), parameter(3));
    check("Realms created", good);
    for (unsigned i = 0; i < parameter(1); i++)
        good &= run(&alive[i], parameter(4));
    check("Realms run", good);
    for (unsigned i = 0; i < parameter(1); i++)
        good &= destroy(&alive[i], i + 1);
    check("Realms destroyed", good);
}

static void versions(void)
{
    int good = 1;

    for (uint64_t i = 0; i < parameter(4); i++)
        good &= ok(RMI_VERSION, 0x10000, 0, 0, 0, 0);
    check("versions", good);
}

void host_main(void)
{
    uint64_t start = counter();

    if (parameter(0) == 0)
        one_after_another();
    else if (parameter(0) == 1)
        at_once();
    else
        versions();
    print_number(calls);
    print(" RMI calls in ");
    print_number(counter() - start);
    print(" ticks\n");
    print_number(passed);
    print(" passed, ");
    print_number(failed);
    print(" failed\n");
    smc_call((uint64_t[8]){PSCI_SYSTEM_OFF});
}
