/* Shared declarations of the embedded Realm payload. SPDX-License-Identifier: MIT */
#ifndef PAYLOAD_H
#define PAYLOAD_H

#include <stddef.h>
#include <stdint.h>

#define PAGE 4096UL

/* Virtual windows (39-bit VA): RAM is mapped 1:1, the Unprotected half is seen through two windows. */
#define VA_DEVICES 0x1000000000UL /* Unprotected alias of IPA 0, 1 GB, Device */
#define VA_SHARED 0x2000000000UL  /* Unprotected alias of IPA 0x80000000, 1 GB, Normal */
#define RAM_WINDOW 0x80000000UL

#define RSI_VERSION 0xC4000190UL
#define RSI_FEATURES 0xC4000191UL
#define RSI_MEASUREMENT_READ 0xC4000192UL
#define RSI_MEASUREMENT_EXTEND 0xC4000193UL
#define RSI_ATTESTATION_TOKEN_INIT 0xC4000194UL
#define RSI_ATTESTATION_TOKEN_CONTINUE 0xC4000195UL
#define RSI_REALM_CONFIG 0xC4000196UL
#define RSI_IPA_STATE_SET 0xC4000197UL
#define RSI_IPA_STATE_GET 0xC4000198UL
#define RSI_HOST_CALL 0xC4000199UL
#define RSI_INCOMPLETE 3UL
#define RIPAS_EMPTY 0UL
#define RIPAS_RAM 1UL

#define PSCI_CPU_OFF 0x84000002UL
#define PSCI_CPU_ON 0xC4000003UL
#define PSCI_AFFINITY_INFO 0xC4000004UL
#define PSCI_SYSTEM_OFF 0x84000008UL

/* Host call protocol (see realmkit.host.vmm.hostcall). */
#define HOST_GET_CHALLENGE 1
#define HOST_TOKEN 2
#define HOST_RESULT 3

struct platform {
    uint64_t ram_base, ram_size;
    uint64_t uart, gicd, gicr;
    unsigned cpus;
};

extern struct platform platform;
extern uint64_t shared_bit;

void read_devicetree(const void *dtb);
void smc_call(uint64_t regs[11]);
uint64_t smc(uint64_t fid, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t *x1, uint64_t *x2);
void map_unprotected(void);
void print(const char *text);
void print_hex(uint64_t value);
void print_bytes(const uint8_t *bytes, size_t count);
#endif
