/*
 * The embedded Realm: shows, from inside, what Arm CCA promises to a Realm. SPDX-License-Identifier: MIT
 *
 * Every step prints one line and reports a result to the Host; the first failure is reported and ends the Realm.
 */
#include "payload.h"

struct platform platform;
uint64_t shared_bit;

static uint8_t config_page[PAGE] __attribute__((aligned(4096)));
static uint8_t shared_page[PAGE] __attribute__((aligned(4096)));
static uint8_t token_page[PAGE] __attribute__((aligned(4096)));
static uint64_t host_call_page[32] __attribute__((aligned(256)));
static uint8_t secondary_stacks[64][1024] __attribute__((aligned(16)));
static volatile unsigned ticks_seen;
static volatile unsigned secondaries_seen;
static unsigned steps;

void secondary_start(void);

uint64_t smc(uint64_t fid, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t *x1, uint64_t *x2)
{
    uint64_t regs[11] = {fid, a, b, c, d};

    smc_call(regs);
    if (x1)
        *x1 = regs[1];
    if (x2)
        *x2 = regs[2];
    return regs[0];
}

/* ---- console: a PL011 that the Host emulates in the Unprotected half ---- */

static void put(char c)
{
    volatile uint32_t *uart = (volatile uint32_t *)(VA_DEVICES + (platform.uart & ~shared_bit));

    while (uart[0x18 / 4] & (1U << 5))
        ;
    uart[0] = (uint32_t)(uint8_t)c;
}

void print(const char *text)
{
    for (; *text; text++) {
        if (*text == '\n')
            put('\r');
        put(*text);
    }
}

void print_hex(uint64_t value)
{
    int shift = 60;

    print("0x");
    while (shift && !(value >> shift & 15))
        shift -= 4;
    for (; shift >= 0; shift -= 4)
        put("0123456789abcdef"[value >> shift & 15]);
}

void print_bytes(const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        put("0123456789abcdef"[bytes[i] >> 4]);
        put("0123456789abcdef"[bytes[i] & 15]);
    }
}

static void print_number(uint64_t value)
{
    char digits[20];
    int n = 0;

    do {
        digits[n++] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    while (n)
        put(digits[--n]);
}

/* ---- the Host, by RSI_HOST_CALL ---- */

static uint64_t host_call(uint16_t imm, uint64_t a, uint64_t b, uint64_t c)
{
    host_call_page[0] = imm;
    host_call_page[1] = a;
    host_call_page[2] = b;
    host_call_page[3] = c;
    return smc(RSI_HOST_CALL, (uint64_t)host_call_page, 0, 0, 0, 0, 0);
}

static void __attribute__((noreturn)) power_off(void)
{
    for (;;)
        smc(PSCI_SYSTEM_OFF, 0, 0, 0, 0, 0, 0);
}

static void report(const char *what, int ok)
{
    print(ok ? "[ ok ] " : "[FAIL] ");
    print(what);
    print("\n");
    host_call(HOST_RESULT, ++steps, ok ? 0 : 1, 0);
    if (!ok)
        power_off();
}

/* ---- exceptions ---- */

void on_exception(uint64_t kind, uint64_t esr, uint64_t elr, uint64_t far)
{
    if (kind == 5) {
        uint64_t intid;

        __asm__ volatile("mrs %0, S3_0_C12_C12_0" : "=r"(intid)); /* ICC_IAR1_EL1 */
        if (intid == 27) {
            __asm__ volatile("msr cntv_ctl_el0, %0" ::"r"(2UL)); /* masked until it is set up again */
            ticks_seen++;
        }
        if (intid < 1020)
            __asm__ volatile("msr S3_0_C12_C12_1, %0" ::"r"(intid)); /* ICC_EOIR1_EL1 */
        __asm__ volatile("isb");
        return;
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
    report("no unexpected exception", 0);
}

/* ---- the steps ---- */

static int ipa_state_set(uint64_t base, uint64_t top, uint64_t ripas)
{
    while (base < top) {
        uint64_t next, response;

        if (smc(RSI_IPA_STATE_SET, base, top, ripas, 1, &next, &response) || response || next <= base)
            return 0;
        base = next;
    }
    return 1;
}

static uint64_t ripas_of(uint64_t ipa)
{
    uint64_t top, ripas;

    return smc(RSI_IPA_STATE_GET, ipa, ipa + PAGE, 0, 0, &top, &ripas) ? ~0UL : ripas;
}

static volatile uint8_t *shared_alias(const void *p)
{
    return (volatile uint8_t *)(VA_SHARED + ((uint64_t)p - RAM_WINDOW));
}

static void share_and_take_back(void)
{
    uint64_t page = (uint64_t)shared_page;
    volatile uint64_t *outside = (volatile uint64_t *)shared_alias(shared_page);
    volatile uint64_t *inside = (volatile uint64_t *)shared_page;
    int ok;

    ok = ipa_state_set(page, page + PAGE, RIPAS_EMPTY) && ripas_of(page) == RIPAS_EMPTY;
    *outside = 0x68656c6c6f21UL;
    report("page shared with the Host", ok && *outside == 0x68656c6c6f21UL);
    ok = ipa_state_set(page, page + PAGE, RIPAS_RAM) && ripas_of(page) == RIPAS_RAM;
    *inside = 0x7072697661746521UL;
    report("page taken back, private again", ok && *inside == 0x7072697661746521UL && *outside != *inside);
}

static void touch_unpopulated(void)
{
    uint64_t base = platform.ram_base + platform.ram_size / 2;
    unsigned good = 0;

    for (unsigned i = 0; i < 8; i++) {
        volatile uint64_t *p = (volatile uint64_t *)(base + i * 3 * PAGE);

        *p = base ^ (i + 1) * 0x9e3779b97f4a7c15UL;
        good += *p == (base ^ (i + 1) * 0x9e3779b97f4a7c15UL);
    }
    report("memory that was never populated appears on demand", good == 8);
}

static void timer_interrupt(void)
{
    volatile uint32_t *gicd = (volatile uint32_t *)(VA_DEVICES + (platform.gicd & ~shared_bit));
    volatile uint32_t *gicr = (volatile uint32_t *)(VA_DEVICES + (platform.gicr & ~shared_bit));
    uint64_t now;

    gicr[0x14 / 4] &= ~2U; /* GICR_WAKER.ProcessorSleep */
    while (gicr[0x14 / 4] & 4U)
        ;
    gicd[0] = 0x12; /* ARE_NS, EnableGrp1 */
    gicr[0x10080 / 4] = 0xffffffff; /* GICR_IGROUPR0 */
    ((volatile uint8_t *)gicr)[0x10400 + 27] = 0x80; /* GICR_IPRIORITYR */
    gicr[0x10100 / 4] = 1U << 27; /* GICR_ISENABLER0 */
    __asm__ volatile("msr S3_0_C12_C12_5, %0" ::"r"(1UL)); /* ICC_SRE_EL1 */
    __asm__ volatile("isb");
    __asm__ volatile("msr S3_0_C4_C6_0, %0" ::"r"(0xf0UL)); /* ICC_PMR_EL1 */
    __asm__ volatile("msr S3_0_C12_C12_7, %0" ::"r"(1UL)); /* ICC_IGRPEN1_EL1 */
    __asm__ volatile("isb");
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(now));
    __asm__ volatile("msr cntv_cval_el0, %0" ::"r"(now + 50000)); /* half a millisecond at 100 MHz */
    __asm__ volatile("msr cntv_ctl_el0, %0" ::"r"(1UL));
    __asm__ volatile("isb");
    __asm__ volatile("msr daifclr, #2");
    while (!ticks_seen)
        __asm__ volatile("wfi");
    __asm__ volatile("msr daifset, #2");
    report("timer interrupt taken", ticks_seen == 1);
}

static int measurement(uint64_t index, uint8_t out[64])
{
    uint64_t regs[11] = {RSI_MEASUREMENT_READ, index};

    smc_call(regs);
    for (unsigned i = 0; i < 8; i++)
        for (unsigned b = 0; b < 8; b++)
            out[8 * i + b] = (uint8_t)(regs[1 + i] >> (8 * b));
    return regs[0] == 0;
}

static void measurements(unsigned digest)
{
    uint8_t rim[64], before[64], after[64];
    uint64_t extend[11] = {RSI_MEASUREMENT_EXTEND, 1, 32, 0x05a9bf223fedf80aUL, 0x9d0da5f73f5c191aUL,
                           0x665bf4a0a4a3e608UL, 0xf2f9e7d5ff23959cUL};
    int ok, changed = 0;

    ok = measurement(0, rim) && measurement(1, before);
    print("       RIM  ");
    print_bytes(rim, digest);
    print("\n");
    smc_call(extend);
    ok = ok && extend[0] == 0 && measurement(1, after);
    for (unsigned i = 0; i < 64; i++)
        changed |= before[i] != after[i];
    print("       REM0 ");
    print_bytes(after, digest);
    print("\n");
    report("measurements read, REM0 extended", ok && changed);
}

static void attestation(void)
{
    uint64_t page = (uint64_t)shared_page;
    uint64_t regs[11] = {RSI_ATTESTATION_TOKEN_INIT};
    uint64_t bound, length = 0, status;
    volatile uint8_t *out = shared_alias(shared_page);

    host_call(HOST_GET_CHALLENGE, 0, 0, 0);
    for (unsigned i = 0; i < 8; i++)
        regs[1 + i] = host_call_page[2 + i];
    report("challenge received from the owner", host_call_page[1] >= 32 && host_call_page[1] <= 64);
    smc_call(regs);
    bound = regs[1];
    report("attestation token started", regs[0] == 0 && bound <= PAGE);
    do {
        uint64_t chunk;

        status = smc(RSI_ATTESTATION_TOKEN_CONTINUE, (uint64_t)token_page, length, PAGE - length, 0, &chunk, 0);
        if (status == 0 || status == RSI_INCOMPLETE)
            length += chunk;
    } while (status == RSI_INCOMPLETE && length < bound);
    print("       token of ");
    print_number(length);
    print(" bytes\n");
    report("attestation token complete", status == 0);
    ipa_state_set(page, page + PAGE, RIPAS_EMPTY);
    for (uint64_t i = 0; i < length; i++)
        out[i] = token_page[i];
    status = host_call(HOST_TOKEN, page | shared_bit, length, length);
    report("token handed to the owner", status == 0);
}

void secondary_main(void)
{
    __atomic_fetch_add(&secondaries_seen, 1, __ATOMIC_SEQ_CST);
    smc(PSCI_CPU_OFF, 0, 0, 0, 0, 0, 0);
}

static void secondary_cpus(void)
{
    unsigned started = 0;

    for (unsigned i = 1; i < platform.cpus && i < 64; i++) {
        uint64_t mpidr = (i & 15) | (uint64_t)(i >> 4) << 8;

        if (smc(PSCI_CPU_ON, mpidr, (uint64_t)secondary_start, (uint64_t)secondary_stacks[i] + 1024, 0, 0, 0) == 0)
            started++;
        while (smc(PSCI_AFFINITY_INFO, mpidr, 0, 0, 0, 0, 0) == 0)
            ;
    }
    if (platform.cpus > 1)
        report("secondary VCPUs ran and went off", started + 1 == platform.cpus && secondaries_seen == started);
}

void payload_main(const void *dtb)
{
    uint64_t lower, higher, status, width, feature;

    read_devicetree(dtb);
    status = smc(RSI_REALM_CONFIG, (uint64_t)config_page, 0, 0, 0, 0, 0);
    width = *(uint64_t *)config_page;
    shared_bit = 1UL << (width - 1);
    map_unprotected();
    print("realmkit embedded Realm\n");
    report("MMU on, code read-only, console in the Unprotected half", status == 0);
    status = smc(RSI_VERSION, 0x10000, 0, 0, 0, &lower, &higher);
    report("RSI 1.0 negotiated", status == 0 && lower == 0x10000);
    print("       IPA width ");
    print_number(width);
    print(", hash ");
    print(config_page[8] ? "SHA-512" : "SHA-256");
    print(", VCPUs ");
    print_number(platform.cpus);
    print("\n");
    status = smc(RSI_FEATURES, 0, 0, 0, 0, &feature, 0);
    report("features read", status == 0 && feature == 0);
    share_and_take_back();
    touch_unpopulated();
    timer_interrupt();
    measurements(config_page[8] ? 64 : 32);
    attestation();
    secondary_cpus();
    print("goodbye\n");
    power_off();
}
