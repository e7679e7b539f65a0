"""Finds the instructions that must come to us although Unicorn would execute them: a look at each page of code."""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from unicorn.arm64_const import UC_ARM64_INS_MRS, UC_ARM64_INS_MSR, UC_ARM64_INS_SYS

from realmkit.machine.core.fatal import is_fatal

WAIT: Final = -1
"""Kind of WFE."""
FATAL: Final = -2
"""Kind of what Unicorn must not see (:mod:`realmkit.machine.core.fatal`)."""
_UPPERS: Final = re.compile(rb"[\x08\x0b\x0c\x1b\x1c\x3b\x3c]\xd5")
_IMAGE_UPPERS: Final = re.compile(rb"[\x08\x0b\x0c\x1b\x1c\x38\x3b\x3c]\xd5")
"""Upper half-words of what may have to be hooked, besides WFE; none of them begins as it ends."""
_FATAL_TOPS: Final = re.compile(rb"[\x0e\x1e\x2e\x3e\x4e\x5e\x6e\x7e]")
_WFE: Final = 0xD503_205F
_WFE_BYTES: Final = _WFE.to_bytes(4, "little")
_CTR, _RNDR, _RNDRRS = 0xD53B_0020, 0xD53B_2400, 0xD53B_2420
"""MRS of CTR_EL0, RNDR and RNDRRS."""


def find(page: memoryview, image: bool) -> Iterator[tuple[int, int]]:
    """(offset, kind) of each such instruction, kind being Unicorn's name of it; ``image``: the code may run at EL2."""
    words = page.cast("I")
    code = page.tobytes()
    at = code.find(_WFE_BYTES)
    while at >= 0:
        if not at & 3:
            yield at, WAIT
        at = code.find(_WFE_BYTES, at + 1)
    for match in (_IMAGE_UPPERS if image else _UPPERS).finditer(page.cast("H")[1::2].tobytes()):
        place = match.start()
        if place & 1:
            continue
        kind = kind_of(words[place >> 1], image)
        if kind is not None:
            yield 2 * place, kind
    tops = code[3::4]
    for match in _FATAL_TOPS.finditer(tops):
        at = match.start()
        if is_fatal(words[at]):
            yield 4 * at, FATAL


@lru_cache(maxsize=4096)
def kind_of(word: int, image: bool) -> int | None:
    """How to hook an instruction; None for what needs no hook.

    Counters and timers, CTR_EL0, TLBI, AT, IC, WFE; and what EL2 executes without a trap: identification registers and
    HCR_EL2.
    """
    if word == _WFE:
        return WAIT
    upper, crn, crm = word >> 16, word >> 12 & 15, word >> 8 & 15
    move: int = UC_ARM64_INS_MRS if word >> 21 & 1 else UC_ARM64_INS_MSR
    system: int = UC_ARM64_INS_SYS
    if upper in (0xD51B, 0xD53B):
        return move if crn == 14 or word & ~31 in (_CTR, _RNDR, _RNDRRS) else None
    if upper in (0xD51C, 0xD53C):
        return move if crn == 14 or (image and crn == 1 and crm == 1 and word >> 5 & 7 == 0) else None
    if upper == 0xD538:
        return move if image and crn == 0 else None
    if upper in (0xD508, 0xD50C) and (crn == 8 or (crn == 7 and crm == 8)):
        return system
    if upper in (0xD508, 0xD50B) and crn == 7 and crm in (1, 5):
        return system
    return None
