// A Secure partition at S-EL2 that answers direct messages. SPDX-License-Identifier: MIT
//
// X3 of a request selects: 0: X4 + 1 comes back. 1: X4 is kept in Secure memory, the value before comes back.
// 2: X4 is an address to load from; X5 = 1 and X4 = status code if that aborts. 3: FFA_MSG_WAIT and an answer to somebody
// else are tried first; X4, X5 = their results. 4: its own identifier and version.

        .text
        .global _start
_start:
        adr     x0, vectors
        msr     vbar_el2, x0
        isb
        ldr     w0, =0x84000063         // FFA_VERSION
        mov     w1, #0x10000
        movk    w1, #1
        smc     #0
        mov     w20, w0
        ldr     w0, =0x84000069         // FFA_ID_GET
        smc     #0
        mov     w21, w2
        ldr     w0, =0x8400006B         // FFA_MSG_WAIT: ready
        smc     #0

request:                                // X0 function, W1 endpoints, X3-X7 payload
        mov     x22, x0
        mov     w23, w1
        mov     x5, #0
        cmp     x3, #1
        b.eq    keep
        cmp     x3, #2
        b.eq    probe
        cmp     x3, #3
        b.eq    misuse
        cmp     x3, #4
        b.eq    identity
        add     x4, x4, #1
        b       answer
keep:
        adr     x9, kept
        ldr     x10, [x9]
        str     x4, [x9]
        mov     x4, x10
        b       answer
probe:
        ldr     x4, [x4]
        b       answer
identity:
        mov     w4, w21
        mov     w5, w20
        b       answer
misuse:
        ldr     w0, =0x8400006B
        smc     #0
        sxtw    x24, w2
        add     x0, x22, #1
        mov     w1, w23
        smc     #0
        sxtw    x5, w2
        mov     x4, x24
        mov     x3, #3
answer:
        add     x0, x22, #1             // the response function follows its request
        ror     w1, w23, #16
        mov     x2, #0
        mov     x6, #0x66
        mov     x7, #0x77
        smc     #0
        b       request

        .balign 8
kept:   .quad   0x5ec4e7
        .ltorg

        .balign 2048
vectors:
        .rept   4
        b       .
        .balign 128
        .endr
        mrs     x4, esr_el2             // synchronous, same level: only probe provokes it
        and     x4, x4, #63
        mov     x5, #1
        adr     x9, answer
        msr     elr_el2, x9
        eret
        .balign 128
        .rept   11
        b       .
        .balign 128
        .endr
