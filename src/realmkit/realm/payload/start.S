// Entry, exception vectors and secondary start of the embedded Realm payload.
// SPDX-License-Identifier: MIT
//
// Entry state (RMM 1.0, REC creation): EL1h, MMU off, DAIF masked, X0 = IPA of the devicetree.

        .section .text.start, "ax"
        .global _start
_start:
        mov     x19, x0
        adrp    x1, boot_stack_top
        add     sp, x1, :lo12:boot_stack_top
        adrp    x0, __bss_start
        add     x0, x0, :lo12:__bss_start
        adrp    x1, __bss_end
        add     x1, x1, :lo12:__bss_end
1:      cmp     x0, x1
        b.hs    2f
        stp     xzr, xzr, [x0], #16
        b       1b
2:      adrp    x0, vectors
        add     x0, x0, :lo12:vectors
        msr     vbar_el1, x0
        mov     x0, #(3 << 20)          // CPACR_EL1.FPEN: no trap, although only integer code runs here
        msr     cpacr_el1, x0
        isb
        mov     x0, x19
        bl      build_tables            // returns in X0 the table base
        bl      enable_mmu
        mov     x0, x19
        bl      payload_main
        b       .

// X0 = TTBR0 value. All registers for EL1 stage 1: 39-bit VA, 4 KB granule, 48-bit output.
        .global enable_mmu
enable_mmu:
        ldr     x1, =0x00000000004404ff // MAIR: 0 = Normal WB, 1 = Device-nGnRE, 2 = Normal NC
        msr     mair_el1, x1
        ldr     x1, =0x0000000580803519 // TCR: IPS 48 bits, EPD1, SH0 inner, WB WA, T0SZ 25
        msr     tcr_el1, x1
        msr     ttbr0_el1, x0
        isb
        tlbi    vmalle1
        dsb     nsh
        isb
        mrs     x1, sctlr_el1
        mov     x2, #0x1005             // I, C, M
        orr     x1, x1, x2
        msr     sctlr_el1, x1
        isb
        ret

// Secondary VCPU: X0 = context identifier = stack top.
        .global secondary_start
secondary_start:
        mov     sp, x0
        mov     x19, x0
        adrp    x0, vectors
        add     x0, x0, :lo12:vectors
        msr     vbar_el1, x0
        adrp    x0, table_l1
        add     x0, x0, :lo12:table_l1
        bl      enable_mmu
        bl      secondary_main
        b       .

        .macro  vector, kind
        .balign 0x80
        sub     sp, sp, #192
        stp     x0, x1, [sp]
        mov     x0, #\kind
        b       exception
        .endm

        .balign 0x800
vectors:
        vector  0
        vector  1
        vector  2
        vector  3
        vector  4                       // current EL, SP_ELx: synchronous
        vector  5                       // IRQ
        vector  6
        vector  7
        vector  8
        vector  9
        vector  10
        vector  11
        vector  12
        vector  13
        vector  14
        vector  15

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
        str     x30, [sp, #160]
        mrs     x1, esr_el1
        mrs     x2, elr_el1
        mrs     x3, far_el1
        bl      on_exception            // returns for interrupts only
        ldr     x30, [sp, #160]
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

// void smc_call(uint64_t regs[11]): X0-X10 in and out.
        .global smc_call
smc_call:
        stp     x29, x30, [sp, #-32]!
        str     x0, [sp, #16]
        mov     x16, x0
        ldp     x0, x1, [x16]
        ldp     x2, x3, [x16, #16]
        ldp     x4, x5, [x16, #32]
        ldp     x6, x7, [x16, #48]
        ldp     x8, x9, [x16, #64]
        ldr     x10, [x16, #80]
        smc     #0
        ldr     x16, [sp, #16]
        stp     x0, x1, [x16]
        stp     x2, x3, [x16, #16]
        stp     x4, x5, [x16, #32]
        stp     x6, x7, [x16, #48]
        stp     x8, x9, [x16, #64]
        str     x10, [x16, #80]
        ldp     x29, x30, [sp], #32
        ret
