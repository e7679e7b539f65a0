/* What the parts of the platform tests share. SPDX-License-Identifier: MIT */
#ifndef TESTS_H
#define TESTS_H

#include <stdint.h>

/* Runs code at EL1 or EL0 until an exception of that level reaches EL2; returns its X0 then. */
uint64_t run_guest(uint64_t pc, uint64_t spsr, uint64_t x0);
extern char guest_return[];

/* Guest code (guest.S). */
extern char guest_hvc[], guest_svc[], guest_el0_svc[], guest_load[], guest_wait_irq[], guest_vectors[];
extern uint8_t realm_start[];
#endif
