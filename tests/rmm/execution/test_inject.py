"""Exceptions that the RMM takes to a Realm's EL1 (spec: rec-run section 7)."""

import pytest

from realmkit.arch.esr import Ec, make_esr
from realmkit.machine.port import CpuContext
from realmkit.rmm.execution import inject

VBAR = 0x4_0000
EL0, EL1T, EL1H, AARCH32_EL0 = 0x0, 0x4, 0x5, 0x10


def context(pstate: int) -> CpuContext:
    ctx = CpuContext(pc=0x1234, pstate=pstate)
    ctx.write("SCTLR_EL1", 1 << 23)
    ctx.write("VBAR_EL1", VBAR | 0x7FF)
    return ctx


@pytest.mark.parametrize(
    ("mode", "offset"), [(EL1H, 0x200), (EL1T, 0x000), (EL0, 0x400), (AARCH32_EL0, 0x600), (EL1H | 0x3C0, 0x200)]
)
def test_vectors_and_saved_state(mode: int, offset: int) -> None:
    ctx = context(mode)
    inject.undefined(ctx)
    assert ctx.pc == VBAR + offset
    assert ctx.pstate == 0x3C5
    assert (ctx.read("ELR_EL1"), ctx.read("SPSR_EL1"), ctx.read("ESR_EL1")) == (0x1234, mode, 0x0200_0000)


@pytest.mark.parametrize(
    ("mode", "source", "target"),
    [
        (EL0, Ec.IABT_LOWER, Ec.IABT_LOWER),
        (EL0, Ec.DABT_LOWER, Ec.DABT_LOWER),
        (EL1H, Ec.IABT_LOWER, Ec.IABT_SAME),
        (EL1H, Ec.DABT_LOWER, Ec.DABT_SAME),
        (EL1T, Ec.DABT_LOWER, Ec.DABT_SAME),
    ],
)
def test_external_abort(mode: int, source: Ec, target: Ec) -> None:
    """EC, FSC, FnV and S1PTW are replaced, the rest of the syndrome is the Realm's own."""
    ctx = context(mode)
    everything = (1 << 25) - 1
    inject.external_abort(ctx, make_esr(source, everything), 0x5678)
    assert ctx.read("ESR_EL1") == make_esr(target, everything & ~(0x3F | 1 << 10 | 1 << 7) | 0x10 | 1 << 9)
    assert ctx.read("FAR_EL1") == 0x5678


def test_unknown_leaves_far_alone() -> None:
    ctx = context(EL1H)
    ctx.write("FAR_EL1", 0x99)
    inject.undefined(ctx)
    assert ctx.read("FAR_EL1") == 0x99


@pytest.mark.parametrize("level", range(4))
@pytest.mark.parametrize("wnr", [0, 1 << 6])
def test_address_size_fault(level: int, wnr: int) -> None:
    ctx = context(EL1H)
    inject.address_size_fault(ctx, make_esr(Ec.DABT_LOWER, 0x1BF_0004 | wnr), 0x5678, level)
    assert ctx.read("ESR_EL1") == make_esr(Ec.DABT_SAME, level | wnr)
    assert ctx.read("FAR_EL1") == 0x5678


@pytest.mark.parametrize(("span", "before", "after"), [(1, 0, 0), (1, 1, 1), (0, 0, 1), (0, 1, 1)])
def test_pan_is_set_unless_the_realm_says_otherwise(span: int, before: int, after: int) -> None:
    ctx = context(EL1H | before << 22)
    ctx.write("SCTLR_EL1", span << 23)
    inject.undefined(ctx)
    assert ctx.pstate == 0x3C5 | after << 22
