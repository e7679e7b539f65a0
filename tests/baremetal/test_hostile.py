"""Host images with system instructions that do not exist: each is UNDEFINED, and the code goes on."""

import pytest

from realmkit.baremetal import Limits, Outcome
from tests.baremetal.kit import CODE, ERET, POWER_OFF, flat, mov64, run

VECTORS = CODE + 0x8000
SYS = 0xD508_0000
VBAR_EL2, ELR_EL2, HCR_EL2 = 0xD51C_C000, 0xD51C_4020, 0xD51C_1100
READ = 1 << 21


def skipping() -> tuple[int, ...]:
    """Vectors that count exceptions in X20 and go on behind the instruction that took one."""
    entry = [ELR_EL2 | READ | 27, 0x9100_137B, ELR_EL2 | 27, 0x9100_0694, ERET]
    return tuple((entry + [0] * (32 - len(entry))) * 16)


@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize("op1", [0, 4])
def test_address_translations_that_do_not_exist(op1: int, read: bool) -> None:
    words = [
        SYS | read * READ | op1 << 16 | 7 << 12 | crm << 8 | op2 << 5 | 31 for crm in range(16) for op2 in range(8)
    ]
    code = [*mov64(0, VECTORS), VBAR_EL2, *words, *POWER_OFF]
    padding = [0] * ((VECTORS - CODE) // 4 - len(code))
    result = run(flat([*code, *padding, *skipping()]), limits=Limits(max_ticks=10_000_000))
    assert result.outcome is Outcome.POWER_OFF, result.reason
