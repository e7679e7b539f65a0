// NS-EL2 entry, vectors and SMC of the example Host. SPDX-License-Identifier: MIT

        .section .text.start, "ax"
        .global _start
_start:
        adrp    x1, stacks
        add     x1, x1, :lo12:stacks
        add     sp, x1, #0x4000
        adrp    x0, __bss_start
        add     x0, x0, :lo12:__bss_start
        adrp    x1, __bss_end
        add     x1, x1, :lo12:__bss_end
1:      cmp     x0, x1
        b.hs    2f
        stp     xzr, xzr, [x0], #16
        b       1b
2:      bl      build_tables
        bl      el2_setup
        bl      host_main
3:      wfi
        b       3b

// A PE that PSCI CPU_ON starts: X0 = PE number.
        .global secondary_entry
secondary_entry:
        mov     x19, x0
        adrp    x1, stacks
        add     x1, x1, :lo12:stacks
        add     x2, x0, #1
        add     x1, x1, x2, lsl #14
        mov     sp, x1
        bl      el2_setup
        mov     x0, x19
        bl      host_secondary
4:      wfi
        b       4b

// Vectors, MMU (40-bit flat map), interrupts routed to EL2.
el2_setup:
        adrp    x0, vectors
        add     x0, x0, :lo12:vectors
        msr     vbar_el2, x0
        mov     x0, #0x38               // HCR_EL2: FMO, IMO, AMO
        orr     x0, x0, #(1 << 31)      // RW
        orr     x0, x0, #(1 << 27)      // TGE
        msr     hcr_el2, x0
        ldr     x0, =0x00000000000004ff // MAIR: 0 = Normal WB, 1 = Device-nGnRE
        msr     mair_el2, x0
        ldr     x0, =0x0000000080853518 // TCR_EL2: PS 48 bits, TG0 4 KB, WB, T0SZ 24
        msr     tcr_el2, x0
        adrp    x0, table_l0
        add     x0, x0, :lo12:table_l0
        msr     ttbr0_el2, x0
        isb
        tlbi    alle2
        dsb     sy
        isb
        mrs     x0, sctlr_el2
        mov     x1, #0x1005             // I, C, M
        orr     x0, x0, x1
        msr     sctlr_el2, x0
        isb
        mov     x0, #0xff
        msr     S3_0_C4_C6_0, x0        // ICC_PMR_EL1
        mov     x0, #1
        msr     S3_0_C12_C12_7, x0      // ICC_IGRPEN1_EL1
        isb
        ret

        .macro  vector, kind
        .balign 0x80
        sub     sp, sp, #192
        stp     x0, x1, [sp]
        mov     x0, #\kind
        b       exception
        .endm

        .balign 0x800
vectors:
        vector 0
        vector 1
        vector 2
        vector 3
        vector 4
        vector 5
        vector 6
        vector 7
        vector 8
        vector 9
        vector 10
        vector 11
        vector 12
        vector 13
        vector 14
        vector 15

exception:
        stp     x2, x3, [sp, #16]
        stp     x4, x5, [sp, #32]
        stp     x6, x7, [sp, #48]
        stp     x8, x9, [sp, #64]
        stp     x10, x11, [sp, #80]
        stp     x12, x13, [sp, #96]
        stp     x14, x15, [sp, #112]
        stp     x16, x17, [sp, #128]
        stp     x18, x29, [sp, #144]
        mrs     x1, elr_el2
        stp     x30, x1, [sp, #160]
        mrs     x1, esr_el2
        mrs     x2, elr_el2
        mrs     x3, far_el2
        bl      on_exception            // X0 = bytes to add to ELR_EL2
        ldp     x30, x1, [sp, #160]
        add     x1, x1, x0
        msr     elr_el2, x1
        ldp     x18, x29, [sp, #144]
        ldp     x16, x17, [sp, #128]
        ldp     x14, x15, [sp, #112]
        ldp     x12, x13, [sp, #96]
        ldp     x10, x11, [sp, #80]
        ldp     x8, x9, [sp, #64]
        ldp     x6, x7, [sp, #48]
        ldp     x4, x5, [sp, #32]
        ldp     x2, x3, [sp, #16]
        ldp     x0, x1, [sp]
        add     sp, sp, #192
        eret

// void smc_call(uint64_t x[8]): X0-X7 in and out.
        .global smc_call
smc_call:
        str     x30, [sp, #-16]!
        str     x0, [sp, #8]
        mov     x16, x0
        ldp     x0, x1, [x16]
        ldp     x2, x3, [x16, #16]
        ldp     x4, x5, [x16, #32]
        ldp     x6, x7, [x16, #48]
        smc     #0
        ldr     x16, [sp, #8]
        stp     x0, x1, [x16]
        stp     x2, x3, [x16, #16]
        stp     x4, x5, [x16, #32]
        stp     x6, x7, [x16, #48]
        ldr     x30, [sp], #16
        ret

// int execute_at(address): branches there; returns 0 if it came back, 1 after an abort (see on_exception).
        .global execute_at
        .global execute_at_resume
execute_at:
        str     x30, [sp, #-16]!
        blr     x0
        mov     x0, #0
        b       1f
execute_at_resume:
        mov     x0, #1
1:      ldr     x30, [sp], #16
        ret
