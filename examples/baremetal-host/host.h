/* Declarations of the example Host. SPDX-License-Identifier: MIT */
#ifndef HOST_H
#define HOST_H

#include <stddef.h>
#include <stdint.h>

#define PAGE 4096UL
#define MAX_PES 8

#define RMI(n) (0xC4000150UL + (n))
#define RMI_VERSION RMI(0x00)
#define RMI_GRANULE_DELEGATE RMI(0x01)
#define RMI_GRANULE_UNDELEGATE RMI(0x02)
#define RMI_DATA_CREATE RMI(0x03)
#define RMI_DATA_CREATE_UNKNOWN RMI(0x04)
#define RMI_DATA_DESTROY RMI(0x05)
#define RMI_REALM_ACTIVATE RMI(0x07)
#define RMI_REALM_CREATE RMI(0x08)
#define RMI_REALM_DESTROY RMI(0x09)
#define RMI_REC_CREATE RMI(0x0A)
#define RMI_REC_DESTROY RMI(0x0B)
#define RMI_REC_ENTER RMI(0x0C)
#define RMI_RTT_CREATE RMI(0x0D)
#define RMI_RTT_DESTROY RMI(0x0E)
#define RMI_RTT_MAP_UNPROTECTED RMI(0x0F)
#define RMI_RTT_READ_ENTRY RMI(0x11)
#define RMI_RTT_UNMAP_UNPROTECTED RMI(0x12)
#define RMI_PSCI_COMPLETE RMI(0x14)
#define RMI_FEATURES RMI(0x15)
#define RMI_RTT_FOLD RMI(0x16)
#define RMI_REC_AUX_COUNT RMI(0x17)
#define RMI_RTT_INIT_RIPAS RMI(0x18)
#define RMI_RTT_SET_RIPAS RMI(0x19)

#define PSCI_VERSION 0x84000000UL
#define PSCI_CPU_ON 0xC4000003UL
#define PSCI_SYSTEM_OFF 0x84000008UL

/* RmiRecRun, by offset (RMM 1.0 B4). */
#define RUN_FLAGS 0x000
#define RUN_ENTER_GPRS 0x200
#define RUN_REASON 0x800
#define RUN_ESR 0x900
#define RUN_FAR 0x908
#define RUN_HPFAR 0x910
#define RUN_EXIT_GPRS 0xA00
#define RUN_RIPAS_BASE 0xD00
#define RUN_RIPAS_TOP 0xD08
#define RUN_RIPAS_VALUE 0xD10
#define RUN_IMM 0xE00

#define EXIT_SYNC 0
#define EXIT_IRQ 1
#define EXIT_PSCI 3
#define EXIT_RIPAS 4
#define EXIT_HOST_CALL 5

struct rmi_result {
    uint64_t status, x1, x2, x3, x4;
};

struct rmi_result rmi(uint64_t fid, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e);
void smc_call(uint64_t x[8]);
void *memset(void *to, int value, size_t count);
int execute_at(uint64_t address);

void print(const char *text);
void print_number(uint64_t value);
void print_hex(uint64_t value);
void check(const char *name, int ok);
void measure(const char *name, uint64_t ticks, uint64_t count);
uint64_t counter(void);
uint64_t granule(void);
uint64_t granules(unsigned count);
void granules_reset(void);

void gic_init_distributor(void);
void gic_init_pe(unsigned pe);
void arm_timer(uint64_t ticks);
extern volatile unsigned irqs_seen[MAX_PES][32];
extern volatile unsigned aborts_seen;
extern volatile uint64_t last_abort_esr;
/* If set, sees every exception first; returns 1 when it has handled it, and then what to add to ELR_EL2. */
extern int (*exception_hook)(uint64_t kind, uint64_t esr, uint64_t elr, uint64_t far, uint64_t *advance);
extern unsigned pes;

void realm_tests(void);
void realm_lifecycle(unsigned count);
#endif
