"""Code of the tests as words, with the mnemonics."""

from typing import Final

SVC_TO_EL1: Final = (
    0xD4000541,  # svc #42
    0xD4000002,  # hvc #0
)
ERET_TO_EL0: Final = (
    0xD5184020,  # msr elr_el1, x0
    0xD5184001,  # msr spsr_el1, x1
    0xD69F03E0,  # eret
)
USER_SVC: Final = (
    0xD40000E1,  # svc #7
)
HVC: Final = (
    0xD4024682,  # hvc #0x1234
)
SMC: Final = (
    0xD4000063,  # smc #3
)
BRK: Final = (
    0xD4201320,  # brk #0x99
)
UNDEF: Final = (
    0x00000000,  # udf #0
)
STACKS: Final = (
    0x9100001F,  # mov sp, x0
    0xD5184101,  # msr sp_el0, x1
    0xD50040BF,  # msr spsel, #0
    0x910003E2,  # mov x2, sp
    0xD50041BF,  # msr spsel, #1
    0x910003E3,  # mov x3, sp
    0xD4000002,  # hvc #0
)
WFI: Final = (
    0xD503207F,  # wfi
    0xD4000002,  # hvc #0
)
WFE: Final = (
    0xD503205F,  # wfe
    0xD4000002,  # hvc #0
)
FP: Final = (
    0x9E670000,  # fmov d0, x0
    0x1E602821,  # fadd d1, d1, d0
    0x14000000,  # b 1b
)
COUNT: Final = (
    0xD53BE040,  # mrs x0, cntvct_el0
    0xD53BE041,  # mrs x1, cntvct_el0
    0xD53BE002,  # mrs x2, cntfrq_el0
    0xD53B0023,  # mrs x3, ctr_el0
    0xD4000002,  # hvc #0
)
POLL: Final = (
    0xD53BE041,  # mrs x1, cntvct_el0
    0x8B000021,  # add x1, x1, x0
    0xD53BE042,  # mrs x2, cntvct_el0
    0xEB01005F,  # cmp x2, x1
    0x54FFFFC3,  # b.lo 1b
    0xD4000002,  # hvc #0
)
TIMER: Final = (
    0xD53BE041,  # mrs x1, cntvct_el0
    0x8B000021,  # add x1, x1, x0
    0xD51BE341,  # msr cntv_cval_el0, x1
    0xD2800022,  # mov x2, #1
    0xD51BE322,  # msr cntv_ctl_el0, x2
    0xD53BE323,  # mrs x3, cntv_ctl_el0
    0x3617FFE3,  # tbz x3, #2, 1b
    0xD4000002,  # hvc #0
)
TIMER_TVAL: Final = (
    0xD51BE300,  # msr cntv_tval_el0, x0
    0xD53BE341,  # mrs x1, cntv_cval_el0
    0xD2800062,  # mov x2, #3
    0xD51BE322,  # msr cntv_ctl_el0, x2
    0xD53BE323,  # mrs x3, cntv_ctl_el0
    0xD4000002,  # hvc #0
)
ICC: Final = (
    0xD2801F00,  # mov x0, #0xf8
    0xD5184600,  # msr s3_0_c4_c6_0, x0
    0xD2800020,  # mov x0, #1
    0xD518CCE0,  # msr s3_0_c12_c12_7, x0
    0xD50342FF,  # msr daifclr, #2
    0x14000000,  # b 1b
)
ACK: Final = (
    0xD538CC00,  # mrs x0, s3_0_c12_c12_0
    0xD518CC20,  # msr s3_0_c12_c12_1, x0
    0xD4000002,  # hvc #0
)
MASKED: Final = (
    0xD50342DF,  # msr daifset, #2
    0xD2800001,  # mov x1, #0
    0x91000421,  # add x1, x1, #1
    0xF12EE03F,  # cmp x1, #3000
    0x54FFFFC3,  # b.lo 1b
    0xD50342FF,  # msr daifclr, #2
    0xD2800022,  # mov x2, #1
    0xD50342DF,  # msr daifset, #2
    0xD4000002,  # hvc #0
)
LDTR: Final = (
    0xF8400820,  # ldtr x0, [x1]
    0xD4000002,  # hvc #0
)
STTR: Final = (
    0xF8000820,  # sttr x0, [x1]
    0xD4000002,  # hvc #0
)
LDR: Final = (
    0xF9400020,  # ldr x0, [x1]
    0xD4000002,  # hvc #0
)
STR: Final = (
    0xF9000020,  # str x0, [x1]
    0xD4000002,  # hvc #0
)
LDR_UNALIGNED: Final = (
    0xF85FD020,  # ldr x0, [x1, #-3]
    0xD4000002,  # hvc #0
)
LDP: Final = (
    0xA8C10C22,  # ldp x2, x3, [x1], #16
    0xD4000002,  # hvc #0
)
SWP: Final = (
    0xF8208022,  # swp x0, x2, [x1]
    0xD4000002,  # hvc #0
)
JUMP: Final = (
    0xD61F0020,  # br x1
)
CALL: Final = (
    0xD63F0020,  # blr x1
    0xD4000002,  # hvc #0
)
PATCH: Final = (
    0xB9000062,  # str w2, [x3]
    0xD50B7B23,  # dc cvau, x3
    0xD5033B9F,  # dsb ish
    0xD50B7521,  # ic ivau, x1
    0xD5033B9F,  # dsb ish
    0xD5033FDF,  # isb
    0xD63F0020,  # blr x1
    0xD4000002,  # hvc #0
)
TWICE: Final = (
    0xD63F0020,  # blr x1
    0xAA0003E5,  # mov x5, x0
    0xB9000062,  # str w2, [x3]
    0xD5033B9F,  # dsb ish
    0xD50B7521,  # ic ivau, x1
    0xD5033B9F,  # dsb ish
    0xD5033FDF,  # isb
    0xD63F0020,  # blr x1
    0xAA0003E6,  # mov x6, x0
    0xB9000064,  # str w4, [x3]
    0xD5033B9F,  # dsb ish
    0xD50B7521,  # ic ivau, x1
    0xD5033B9F,  # dsb ish
    0xD5033FDF,  # isb
    0xD63F0020,  # blr x1
    0xD4000002,  # hvc #0
)
RETURN1: Final = (
    0xD2800020,  # mov x0, #1
    0xD65F03C0,  # ret
)
RETURN2: Final = (
    0xD2800040,  # mov x0, #2
    0xD65F03C0,  # ret
)
REMAP: Final = (
    0xF9400024,  # ldr x4, [x1]
    0xF9000062,  # str x2, [x3]
    0xD5033B9F,  # dsb ish
    0xD5088320,  # tlbi vae1is, x0
    0xD5033B9F,  # dsb ish
    0xD5033FDF,  # isb
    0xF9400025,  # ldr x5, [x1]
    0xD4000002,  # hvc #0
)
REMAP_ALL: Final = (
    0xF9400024,  # ldr x4, [x1]
    0xF9000062,  # str x2, [x3]
    0xD5033B9F,  # dsb ish
    0xD508831F,  # tlbi vmalle1is
    0xD5033B9F,  # dsb ish
    0xD5033FDF,  # isb
    0xF9400025,  # ldr x5, [x1]
    0xD4000002,  # hvc #0
)
SWITCH_ASID: Final = (
    0xF9400024,  # ldr x4, [x1]
    0xD5182000,  # msr ttbr0_el1, x0
    0xD5033FDF,  # isb
    0xF9400025,  # ldr x5, [x1]
    0xD5182002,  # msr ttbr0_el1, x2
    0xD5033FDF,  # isb
    0xF9400026,  # ldr x6, [x1]
    0xD4000002,  # hvc #0
)
AT: Final = (
    0xD5087801,  # at s1e1r, x1
    0xD5033FDF,  # isb
    0xD5387400,  # mrs x0, par_el1
    0xD5087861,  # at s1e0w, x1
    0xD5033FDF,  # isb
    0xD5387402,  # mrs x2, par_el1
    0xD4000002,  # hvc #0
)
READ_CACHE_TYPE: Final = (
    0xD53B0020,  # mrs x0, ctr_el0
    0xD4000001,  # svc #0
)
READ_COUNTER: Final = (
    0xD53BE040,  # mrs x0, cntvct_el0
    0xD4000001,  # svc #0
)
ADD_LOOP: Final = (
    0xC85F7C02,  # ldxr x2, [x0]
    0x91000442,  # add x2, x2, #1
    0xC8037C02,  # stxr w3, x2, [x0]
    0x35FFFFA3,  # cbnz w3, 1b
    0xD1000421,  # sub x1, x1, #1
    0xB5FFFF61,  # cbnz x1, 1b
    0x14000000,  # b 2b
)
ZERO: Final = (
    0xD50B7421,  # dc zva, x1
    0xD4000002,  # hvc #0
)
OWN_BREAKPOINT: Final = (
    0xD5100083,  # msr dbgbvr0_el1, x3
    0xD51000A4,  # msr dbgbcr0_el1, x4
    0xD5100246,  # msr mdscr_el1, x6
    0xD5033FDF,  # isb
    0xD503201F,  # nop
    0xD503201F,  # nop
    0xD4000002,  # hvc #0
)
