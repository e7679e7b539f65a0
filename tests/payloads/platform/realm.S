// A Realm that spins in its own memory until the Host takes it off the PE. SPDX-License-Identifier: MIT

        .section .rodata.realm, "a"
        .balign 4096
        .global realm_start
realm_start:
        mov     x1, #0x1000
1:      ldr     x2, [x1]
        add     x2, x2, #1
        str     x2, [x1]
        b       1b
        .balign 4096
