// Code of the Realms of the stress Host: each VCPU makes host calls for ever. SPDX-License-Identifier: MIT
//
// X0 at entry = number of the VCPU. Its RsiHostCall lies in the page at IPA 0x1000, 256 bytes apart.

        .section .rodata.realm, "a"
        .balign 4096
        .global realm_start
realm_start:
        mov     x19, #0x1000
        add     x19, x19, x0, lsl #8
        mov     x20, x0
1:      strh    w20, [x19]              // immediate = number of the VCPU
        ldr     x0, =0xC4000199         // RSI_HOST_CALL
        mov     x1, x19
        smc     #0
        b       1b
        .ltorg
        .balign 4096
