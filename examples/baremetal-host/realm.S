// Code of the Realm that the example Host carries. It runs at IPA 0 with its MMU off. SPDX-License-Identifier: MIT
//
// X0 = 0: first VCPU. X20 = Unprotected base. IPA 0x1000: RsiHostCall. Results travel in host calls.

        .section .rodata.realm, "a"
        .balign 4096
        .global realm_start
        .global realm_end
realm_start:
        ldr     x0, =0xC4000190         // RSI_VERSION
        mov     x1, #0x10000
        smc     #0
        mov     x21, x1
        ldr     x0, =0xC4000196         // RSI_REALM_CONFIG to IPA 0x2000
        mov     x1, #0x2000
        smc     #0
        mov     x1, #0x2000
        ldr     x2, [x1]
        sub     x2, x2, #1
        mov     x20, #1
        lsl     x20, x20, x2            // Unprotected base
        mov     x1, #0x1000
        mov     x19, x1

        mov     w2, #1                  // call 1: hello, RSI version
        str     x2, [x19]
        str     x21, [x19, #8]
        bl      host_call

        // RIPAS change of a page that is RAM: share it, and take it back.
        ldr     x0, =0xC4000197
        mov     x1, #0x3000
        mov     x2, #0x4000
        mov     x3, #0
        mov     x4, #1
        smc     #0
        mov     x22, x1
        ldr     x0, =0xC4000197
        mov     x1, #0x3000
        mov     x2, #0x4000
        mov     x3, #1
        mov     x4, #1
        smc     #0
        mov     w2, #2                  // call 2: progress of both changes
        str     x2, [x19]
        str     x22, [x19, #8]
        str     x1, [x19, #16]
        bl      host_call

        // Memory that was never populated.
        mov     x1, #0x5000
        ldr     x2, =0x600d600d600d600d
        str     x2, [x1]
        ldr     x3, [x1]
        mov     w4, #3                  // call 3: what was read back
        str     x4, [x19]
        str     x3, [x19, #8]
        bl      host_call

        // A device in the Unprotected half, emulated by the Host.
        add     x1, x20, #0x9000
        mov     w2, #0x5a
        str     w2, [x1]
        ldr     w3, [x1, #4]
        mov     w4, #4                  // call 4: what the device answered
        str     x4, [x19]
        str     x3, [x19, #8]
        bl      host_call

        // Non-secure memory mapped at 0x8000 of the Unprotected half: wait there until the Host's timer has fired.
        add     x1, x20, #0x8000
        mov     w2, #1
        str     w2, [x1]
1:      ldr     w2, [x1, #4]
        cbz     w2, 1b
        mov     w4, #5                  // call 5: the Host's flag was seen
        str     x4, [x19]
        str     x2, [x19, #8]
        bl      host_call

        wfi                             // trapped, as the Host asks for it

        ldr     x0, =0xC4000003         // PSCI CPU_ON of VCPU 1
        mov     x1, #1
        adr     x2, second
        mov     x3, #0x77
        smc     #0
        mov     x23, x0
        mov     w4, #6                  // call 6: result of CPU_ON
        str     x4, [x19]
        str     x23, [x19, #8]
        bl      host_call

        // Round trips, as many as the answer to call 7 says.
        mov     w4, #7
        str     x4, [x19]
        bl      host_call
        ldr     x24, [x19, #8]
2:      cbz     x24, 3f
        mov     w4, #8
        str     x4, [x19]
        bl      host_call
        sub     x24, x24, #1
        b       2b
3:      ldr     x0, =0x84000008         // PSCI SYSTEM_OFF
        smc     #0
        b       .

second:                                 // X0 = context identifier
        mov     x1, #0x1000
        add     x1, x1, #0x100
        mov     w4, #9                  // call 9 from VCPU 1
        str     x4, [x1]
        str     x0, [x1, #8]
        ldr     x0, =0xC4000199
        smc     #0
        ldr     x0, =0x84000002         // PSCI CPU_OFF
        smc     #0
        b       .

host_call:
        ldr     x0, =0xC4000199         // RSI_HOST_CALL
        mov     x1, x19
        smc     #0
        ret
        .ltorg
        .balign 4096
realm_end:
