/*
 * Tests of what a Host finds at NS-EL2 of the platform: PEs, PSCI, interrupts, timers, EL1 and EL0 below it, faults.
 * SPDX-License-Identifier: MIT
 */
#include "host.h"
#include "tests.h"

#define PSCI_CPU_OFF 0x84000002UL
#define PSCI_AFFINITY_INFO 0xC4000004UL
#define PSCI_FEATURES 0x8400000AUL
#define GICD 0x2F000000UL
#define GICR 0x2F100000UL
#define SP805 0x1C0F0000UL
#define SBSA_CONTROL 0x2A440000UL
#define ECAM 0x40000000UL
#define HCR_RW (1UL << 31)
#define HCR_TGE (1UL << 27)
#define HCR_AMO_IMO_FMO 0x38UL
#define HCR_VM 1UL
#define SPSR_EL1H 0x3c5UL
#define SPSR_EL0 0x3c0UL

#define read_register(name) ({ uint64_t v; __asm__ volatile("mrs %0, " #name : "=r"(v)::"memory"); v; })
#define write_register(name, value) __asm__ volatile("msr " #name ", %0\n isb" ::"r"((uint64_t)(value)) : "memory")

unsigned pes = 1;
static unsigned passed, failed;
static volatile uint64_t guest_esr, guest_far, guest_hpfar;
static volatile unsigned turns[MAX_PES];
static volatile uint64_t spi_seen;
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

static uint64_t smc(uint64_t fid, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t x[8] = {fid, a, b, c};

    smc_call(x);
    return x[0];
}

static uint64_t mpidr_of(unsigned pe)
{
    return (uint64_t)(pe / 4) << 16 | (pe % 4) << 8;
}

static unsigned this_pe(void)
{
    uint64_t mpidr = read_register(mpidr_el1);

    return (unsigned)((mpidr >> 16 & 1) * 4 + (mpidr >> 8 & 3));
}

static void send_sgi(unsigned pe, uint64_t intid)
{
    uint64_t affinity = mpidr_of(pe);

    write_register(S3_0_C12_C11_5, 1UL | intid << 24 | affinity >> 16 << 32 | (affinity >> 8 & 255) << 16);
}

/* Lower levels end in run_guest's caller; SPIs are acknowledged and noted. */
static int on_other(uint64_t kind, uint64_t esr, uint64_t elr, uint64_t far, uint64_t *advance)
{
    if (kind >= 8 && kind < 12 && kind != 9) {
        guest_esr = esr;
        guest_far = far;
        guest_hpfar = read_register(hpfar_el2);
        write_register(spsr_el2, 0x3c9UL);
        *advance = (uint64_t)guest_return - elr;
        return 1;
    }
    if (kind == 5 || kind == 9) {
        uint64_t intid = read_register(S3_0_C12_C12_0);

        if (intid == 26)
            write_register(cnthp_ctl_el2, 2);
        if (intid == 27)
            write_register(cntv_ctl_el0, 2);
        if (intid == 30)
            write_register(cntp_ctl_el0, 2);
        if (intid == 32)
            *(volatile uint32_t *)(SP805 + 0xC) = 0; /* INTCLR */
        if (intid == 59)
            *(volatile uint32_t *)SBSA_CONTROL = 0; /* WCS: off */
        if (intid < 32)
            irqs_seen[this_pe()][intid]++;
        else if (intid < 1020)
            spi_seen = intid;
        if (intid < 1020)
            write_register(S3_0_C12_C12_1, intid);
        return 1;
    }
    return 0;
}

/* ---- several PEs ---- */

static volatile uint32_t lock;
static volatile uint64_t counted;
static volatile unsigned started[MAX_PES], stage;

static void take_lock(void)
{
    uint32_t value, failed_store;

    do {
        __asm__ volatile("1: ldaxr %w0, %2\n cbz %w0, 2f\n wfe\n b 1b\n2: stxr %w1, %w3, %2"
                         : "=&r"(value), "=&r"(failed_store), "+Q"(lock)
                         : "r"(1)
                         : "memory");
    } while (failed_store);
}

static void count_under_lock(unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        take_lock();
        counted = counted + 1;
        __asm__ volatile("stlr wzr, %0\n sev" : "=Q"(lock)::"memory");
    }
}

void host_secondary(unsigned pe)
{
    exception_hook = on_other;
    gic_init_pe(pe);
    started[pe]++;
    if (started[pe] > 1) { /* after CPU_OFF: only to be sent an SGI while a Realm runs elsewhere */
        while (stage < 2)
            __asm__ volatile("wfe");
        for (volatile unsigned delay = 0; delay < 20000; delay++)
            ;
        send_sgi(0, 3);
        for (;;)
            __asm__ volatile("wfi");
    }
    count_under_lock(5000);
    while (!irqs_seen[pe][1])
        __asm__ volatile("wfi");
    send_sgi(0, 2);
    turns[pe] = 1;
    smc(PSCI_CPU_OFF, 0, 0, 0);
    check("CPU_OFF does not return", 0);
}

static void psci(void)
{
    uint64_t entry = (uint64_t)secondary_entry;
    int good = 1;

    check("PSCI_FEATURES", smc(PSCI_FEATURES, PSCI_CPU_ON, 0, 0) == 0 && smc(PSCI_FEATURES, 0xC4000053, 0, 0) == ~0UL);
    check("CPU_ON of itself: ALREADY_ON", smc(PSCI_CPU_ON, 0, entry, 0) == (uint64_t)-4);
    check("CPU_ON of nothing: INVALID_PARAMETERS", smc(PSCI_CPU_ON, 0x5000000, entry, 0) == (uint64_t)-2);
    check("AFFINITY_INFO of itself: ON", smc(PSCI_AFFINITY_INFO, 0, 0, 0) == 0);
    check("unknown SMC", smc(0x8400ABCD, 0, 0, 0) == ~0UL && smc(0xC3001234, 0, 0, 0) == ~0UL);
    check("FF-A without a partition", smc(0x84000063, 0x10001, 0, 0) == ~0UL);
    if (smc(PSCI_CPU_ON, mpidr_of(1), 4, 1) != (uint64_t)-2) { /* there is a second PE */
        check("CPU_ON at memory of another world: INVALID_ADDRESS", smc(PSCI_CPU_ON, mpidr_of(1), 0x4000000, 1) == (uint64_t)-9);
        check("AFFINITY_INFO: OFF", smc(PSCI_AFFINITY_INFO, mpidr_of(1), 0, 0) == 1);
    }
    for (unsigned pe = 1; pe < MAX_PES; pe++) {
        uint64_t result = smc(PSCI_CPU_ON, mpidr_of(pe), entry, pe);

        if (result == 0)
            pes = pe + 1;
        else
            good &= result == (uint64_t)-2;
    }
    check("CPU_ON", good);
    count_under_lock(5000);
    while (counted < 5000UL * pes)
        __asm__ volatile("wfe");
    check("lock of all PEs", counted == 5000UL * pes);
    for (unsigned pe = 1; pe < pes; pe++) {
        unsigned before = irqs_seen[0][2];

        send_sgi(pe, 1);
        while (irqs_seen[0][2] == before)
            __asm__ volatile("wfi");
        while (smc(PSCI_AFFINITY_INFO, mpidr_of(pe), 0, 0) != 1)
            ;
        good &= turns[pe] == 1;
    }
    check("SGIs there and back, CPU_OFF", good);
    for (unsigned pe = 1; pe < pes; pe++)
        good &= smc(PSCI_CPU_ON, mpidr_of(pe), entry, pe) == 0;
    for (unsigned pe = 1; pe < pes; pe++)
        while (started[pe] < 2)
            __asm__ volatile("wfe");
    check("CPU_ON after CPU_OFF", good);
}

/* ---- registers, timers, devices ---- */

static void registers(void)
{
    check("GICv3 in ID_AA64PFR0_EL1", (read_register(id_aa64pfr0_el1) >> 24 & 15) == 1);
    check("48-bit physical addresses", (read_register(id_aa64mmfr0_el1) & 15) == 5);
    check("no PMU", (read_register(id_aa64dfr0_el1) >> 8 & 15) == 0);
    check("ICC_SRE_EL2.SRE", read_register(S3_4_C12_C9_5) & 1);
    check("GICD_CTLR.ARE_NS", *(volatile uint32_t *)GICD & 0x10);
    check("GICR_TYPER, 64 bits", *(volatile uint64_t *)(GICR + 8) >> 32 == 0);
    *(volatile uint64_t *)(GICD + 0x6000 + 8 * 40) = 0x100;
    check("GICD_IROUTER, 64 bits", *(volatile uint64_t *)(GICD + 0x6000 + 8 * 40) == 0x100);
    check("counter at 100 MHz", read_register(cntfrq_el0) == 100000000);
    check("ECAM without devices", *(volatile uint32_t *)ECAM == 0xffffffff);
    check("HCR_EL2 reads back", read_register(hcr_el2) == (HCR_RW | HCR_TGE | HCR_AMO_IMO_FMO));
}

static void wait_for(volatile unsigned *seen, unsigned before)
{
    while (*seen == before)
        __asm__ volatile("wfi");
}

static void enable_spi(unsigned intid)
{
    volatile uint32_t *gicd = (volatile uint32_t *)GICD;

    gicd[(0x080 + 4 * (intid / 32)) / 4] = 0xffffffff; /* group 1 */
    ((volatile uint8_t *)GICD)[0x400 + intid] = 0x80;
    *(volatile uint64_t *)(GICD + 0x6000 + 8 * intid) = 0;
    gicd[(0x100 + 4 * (intid / 32)) / 4] = 1U << (intid % 32);
}

static void timers(void)
{
    unsigned before;

    *(volatile uint32_t *)(GICR + 0x10100) = 1U << 27 | 1U << 28 | 1U << 30;
    before = irqs_seen[0][26];
    arm_timer(1000);
    wait_for(&irqs_seen[0][26], before);
    check("CNTHP: PPI 26", 1);
    before = irqs_seen[0][27];
    write_register(cntv_tval_el0, 1000);
    write_register(cntv_ctl_el0, 1);
    wait_for(&irqs_seen[0][27], before);
    check("CNTV: PPI 27", 1);
    before = irqs_seen[0][30];
    write_register(cntp_cval_el0, counter() + 1000);
    write_register(cntp_ctl_el0, 1);
    wait_for(&irqs_seen[0][30], before);
    check("CNTP: PPI 30", 1);
    __asm__ volatile("msr daifset, #2");
    before = irqs_seen[0][26];
    arm_timer(1000);
    __asm__ volatile("wfi");
    check("WFI ends with a masked interrupt", irqs_seen[0][26] == before && read_register(cnthp_ctl_el2) == 5);
    __asm__ volatile("msr daifclr, #2\n isb");
    check("which is taken once it is unmasked", irqs_seen[0][26] == before + 1);
}

static void watchdogs(void)
{
    volatile uint32_t *sp805 = (volatile uint32_t *)SP805;

    enable_spi(32);
    enable_spi(59);
    sp805[0xC00 / 4] = 0x1ACCE551;
    sp805[0] = 3;
    sp805[2] = 1; /* interrupt, no reset */
    while (spi_seen != 32)
        __asm__ volatile("wfi");
    sp805[2] = 0;
    check("SP805 interrupt: SPI 32", 1);
    *(volatile uint32_t *)(SBSA_CONTROL + 8) = 1000; /* WOR */
    *(volatile uint32_t *)SBSA_CONTROL = 1;
    while (spi_seen != 59)
        __asm__ volatile("wfi");
    check("SBSA watchdog: SPI 59", 1);
}

/* ---- EL1 and EL0 ---- */

static uint64_t level1[512] __attribute__((aligned(4096))), level2[512] __attribute__((aligned(4096)));

static void lower_levels(void)
{
    uint64_t hcr = HCR_RW | HCR_AMO_IMO_FMO;
    static uint64_t value = 0x1122334455667788;

    __asm__ volatile("msr daifset, #2");
    check("EL0 under TGE: SVC to EL2", run_guest((uint64_t)guest_el0_svc, SPSR_EL0, 40) == 42 && guest_esr >> 26 == 0x15 &&
                                           (guest_esr & 0xffff) == 9);
    write_register(hcr_el2, hcr);
    check("EL1: HVC", run_guest((uint64_t)guest_hvc, SPSR_EL1H, 40) == 41 && guest_esr >> 26 == 0x16 && (guest_esr & 0xffff) == 5);
    check("EL1: SVC to EL1", run_guest((uint64_t)guest_svc, SPSR_EL1H, (uint64_t)guest_vectors) >> 26 == 0x15);
    check("EL1: load", run_guest((uint64_t)guest_load, SPSR_EL1H, (uint64_t)&value) == value);

    /* Stage 2: 39 bits, start at level 1; the gigabyte of this image, and a hole at 0x40000000. */
    level1[2] = 0x80000000UL | 1UL << 10 | 3UL << 8 | 3UL << 6 | 15UL << 2 | 1;
    write_register(vtcr_el2, 1UL << 31 | 2UL << 16 | 3UL << 12 | 1UL << 10 | 1UL << 8 | 1UL << 6 | 25);
    write_register(vttbr_el2, (uint64_t)level1 | 7UL << 48);
    write_register(hcr_el2, hcr | HCR_VM);
    check("stage 2: HVC", run_guest((uint64_t)guest_hvc, SPSR_EL1H, 50) == 51 && guest_esr >> 26 == 0x16);
    run_guest((uint64_t)guest_load, SPSR_EL1H, 0x40201238);
    check("stage 2: abort with syndrome and address",
          guest_esr >> 26 == 0x24 && (guest_esr & 63) == 5 && guest_esr >> 24 & 1 && (guest_esr >> 16 & 31) == 0 &&
              (guest_far & 0xfff) == 0x238 && guest_hpfar >> 4 << 12 == 0x40201000);
    level2[1] = ((uint64_t)&value & ~0x1fffffUL) | 1UL << 10 | 3UL << 8 | 3UL << 6 | 15UL << 2 | 1;
    level1[1] = (uint64_t)level2 | 3;
    __asm__ volatile("dsb ish\n tlbi vmalls12e1is\n dsb ish\n isb");
    check("stage 2: mapped", run_guest((uint64_t)guest_load, SPSR_EL1H, 0x40200000 + ((uint64_t)&value & 0x1fffff)) == value);
    level2[1] = 0;
    __asm__ volatile("dsb ish\n tlbi vmalls12e1is\n dsb ish\n isb");
    run_guest((uint64_t)guest_load, SPSR_EL1H, 0x40200000 + ((uint64_t)&value & 0x1fffff));
    check("stage 2: unmapped", guest_esr >> 26 == 0x24 && (guest_esr & 63) == 6);

    write_register(S3_4_C12_C11_0, 1);                              /* ICH_HCR_EL2.En */
    write_register(S3_4_C12_C12_0, 1UL << 62 | 1UL << 60 | 0x8UL << 48 | 77); /* ICH_LR0_EL2: pending, group 1 */
    check("virtual interrupt at EL1",
          run_guest((uint64_t)guest_wait_irq, SPSR_EL1H, (uint64_t)guest_vectors) == 77 && (guest_esr & 0xffff) == 8);
    check("its list register is empty", read_register(S3_4_C12_C12_0) >> 62 == 0);
    write_register(S3_4_C12_C11_0, 0);
    write_register(hcr_el2, hcr | HCR_TGE);
    __asm__ volatile("msr daifclr, #2");
}

/* ---- faults ---- */

static int faults(uint64_t address, uint64_t status)
{
    unsigned before = aborts_seen;
    uint64_t value;

    __asm__ volatile("ldr %w0, [%1]" : "=r"(value) : "r"(address) : "memory");
    return aborts_seen == before + 1 && (last_abort_esr & 63) == status;
}

static void memory(void)
{
    volatile uint64_t *page = (volatile uint64_t *)0x90000000UL;

    check("nothing there: external abort", faults(0x1C1D0000, 0x10));
    check("Root memory: granule protection fault", faults(0x1000, 0x28));
    check("Secure memory: granule protection fault", faults(0x4000000, 0x28));
    page[0] = 0x5a5a;
    check("own page", page[0] == 0x5a5a);
    check("delegated", smc(RMI_GRANULE_DELEGATE, (uint64_t)page, 0, 0) == 0);
    check("delegated page: granule protection fault", faults((uint64_t)page, 0x28));
    check("undelegated", smc(RMI_GRANULE_UNDELEGATE, (uint64_t)page, 0, 0) == 0);
    check("page is back, wiped", page[0] == 0);
}

/* ---- a Realm that is interrupted ---- */

static uint8_t params[PAGE] __attribute__((aligned(4096)));
static uint8_t run_page[PAGE] __attribute__((aligned(4096)));
static uint8_t zero_page[PAGE] __attribute__((aligned(4096)));

static void put(void *page, unsigned offset, uint64_t value)
{
    *(volatile uint64_t *)((uint8_t *)page + offset) = value;
}

static uint64_t next = 0x91000000UL;

static uint64_t delegated(void)
{
    smc(RMI_GRANULE_DELEGATE, next, 0, 0);
    next += PAGE;
    return next - PAGE;
}

static int rmi5(uint64_t fid, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e)
{
    uint64_t x[8] = {fid, a, b, c, d, e};

    smc_call(x);
    return x[0] == 0;
}

static int enter_until_irq(uint64_t rec)
{
    return rmi5(RMI_REC_ENTER, rec, (uint64_t)run_page, 0, 0, 0) && *(volatile uint64_t *)(run_page + RUN_REASON) == EXIT_IRQ;
}

static void interrupted_realm(void)
{
    uint64_t rd = delegated(), rtt = delegated(), rec = delegated(), count;
    uint64_t x[8] = {RMI_REC_AUX_COUNT, rd};
    volatile uint32_t *sp805 = (volatile uint32_t *)SP805;
    int good;

    put(params, 0x008, 33);
    put(params, 0x018, 1);
    put(params, 0x020, 1);
    put(params, 0x800, 1);
    put(params, 0x808, rtt);
    put(params, 0x810, 1);
    put(params, 0x818, 1);
    good = rmi5(RMI_REALM_CREATE, rd, (uint64_t)params, 0, 0, 0);
    good &= rmi5(RMI_RTT_CREATE, rd, delegated(), 0, 2, 0) && rmi5(RMI_RTT_CREATE, rd, delegated(), 0, 3, 0);
    good &= rmi5(RMI_RTT_INIT_RIPAS, rd, 0, 0x2000, 0, 0);
    good &= rmi5(RMI_DATA_CREATE, rd, delegated(), 0, (uint64_t)realm_start, 1);
    good &= rmi5(RMI_DATA_CREATE, rd, delegated(), PAGE, (uint64_t)zero_page, 1);
    memset(params, 0, PAGE);
    smc_call(x);
    count = x[1];
    put(params, 0x000, 1);
    put(params, 0x800, count);
    for (unsigned i = 0; i < count; i++)
        put(params, 0x808 + 8 * i, delegated());
    good &= rmi5(RMI_REC_CREATE, rd, rec, (uint64_t)params, 0, 0) && rmi5(RMI_REALM_ACTIVATE, rd, 0, 0, 0, 0);
    check("Realm created", good);

    unsigned before = irqs_seen[0][26];

    __asm__ volatile("msr daifset, #2\n isb");
    arm_timer(20000);
    check("REC exit for a timer", enter_until_irq(rec));
    check("which is still pending then", irqs_seen[0][26] == before);
    __asm__ volatile("msr daifclr, #2\n isb");
    check("and taken by the Host", irqs_seen[0][26] == before + 1);
    spi_seen = 0;
    sp805[0] = 10; /* of 32768 Hz */
    sp805[2] = 1;
    check("REC exit for a watchdog SPI", enter_until_irq(rec) && spi_seen == 32);
    sp805[2] = 0;
    if (pes > 1) {
        before = irqs_seen[0][3];
        stage = 2;
        __asm__ volatile("dsb sy\n sev");
        check("REC exit for an SGI of another PE", enter_until_irq(rec) && irqs_seen[0][3] > before);
    }
}

void host_main(void)
{
    exception_hook = on_other;
    gic_init_distributor();
    gic_init_pe(0);
    registers();
    timers();
    watchdogs();
    memory();
    psci();
    lower_levels();
    interrupted_realm();
    print_number(passed);
    print(" passed, ");
    print_number(failed);
    print(" failed, ");
    print_number(pes);
    print(pes == 1 ? " PE\n" : " PEs\n");
    smc(PSCI_SYSTEM_OFF, 0, 0, 0);
}
