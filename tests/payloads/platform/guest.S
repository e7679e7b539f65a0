// Way into EL1 and EL0, and the code that runs there. SPDX-License-Identifier: MIT

        .text
        .global run_guest
        .global guest_return
run_guest:
        stp     x29, x30, [sp, #-96]!
        stp     x19, x20, [sp, #16]
        stp     x21, x22, [sp, #32]
        stp     x23, x24, [sp, #48]
        stp     x25, x26, [sp, #64]
        stp     x27, x28, [sp, #80]
        msr     elr_el2, x0
        msr     spsr_el2, x1
        mov     x0, x2
        isb
        eret
guest_return:
        ldp     x19, x20, [sp, #16]
        ldp     x21, x22, [sp, #32]
        ldp     x23, x24, [sp, #48]
        ldp     x25, x26, [sp, #64]
        ldp     x27, x28, [sp, #80]
        ldp     x29, x30, [sp], #96
        ret

        .balign 4096
        .global guest_hvc
guest_hvc:                              // X0 + 1 comes back
        add     x0, x0, #1
        hvc     #5
        b       .

        .global guest_svc
guest_svc:                              // X0 = vectors: an SVC at EL1 goes to EL1, which reports its syndrome
        msr     vbar_el1, x0
        isb
        svc     #7
        b       .

        .global guest_el0_svc
guest_el0_svc:
        add     x0, x0, #2
        svc     #9
        b       .

        .global guest_load
guest_load:                             // X0 = address, comes back with what is there
        ldr     x0, [x0]
        hvc     #6
        b       .

        .global guest_wait_irq
guest_wait_irq:                         // X0 = vectors: waits for a virtual interrupt
        msr     vbar_el1, x0
        mov     x0, #1
        msr     S3_0_C12_C12_7, x0      // ICC_IGRPEN1_EL1
        mov     x0, #0xff
        msr     S3_0_C4_C6_0, x0        // ICC_PMR_EL1
        isb
        msr     daifclr, #2
1:      wfi
        b       1b

        .balign 2048
        .global guest_vectors
guest_vectors:
        .rept   4
        b       .
        .balign 128
        .endr
        mrs     x0, esr_el1             // current level, SP_EL1: synchronous
        hvc     #7
        b       .
        .balign 128
        mrs     x0, S3_0_C12_C12_0      // IRQ: ICC_IAR1_EL1
        msr     S3_0_C12_C12_1, x0
        hvc     #8
        b       .
        .balign 128
        .rept   10
        b       .
        .balign 128
        .endr
