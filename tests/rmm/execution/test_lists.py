"""List registers of an entry and an exit (spec: rec-run section 5)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realmkit.arch.gic import ICH_HCR, IchState
from realmkit.arch.rmi import GICV3_HCR_HOST_MASK
from realmkit.devices.gic import VirtualCpuInterface
from realmkit.rmm.execution import lists
from tests.rmm.execution.running import Running

PENDING, ACTIVE, BOTH = 1 << 62, 2 << 62, 3 << 62
HW, GROUP1, EOI = 1 << 61, 1 << 60, 1 << 41


@pytest.mark.parametrize("bit", range(64))
def test_hcr_bits_of_the_host(bit: int) -> None:
    """attacks 32: UIE, LRENPIE, NPIE, VGrp0EIE, VGrp0DIE, VGrp1EIE, VGrp1DIE, TDIR."""
    bench = Running()
    if bit in (1, 2, 3, 4, 5, 6, 7, 14):
        assert bench.enter(hcr=1 << bit).ich.hcr == 1 << bit | 1
        assert bench.interrupt().gicv3_hcr == 1 << bit
    else:
        assert bench.refused(hcr=1 << bit).label == "rec_gicv3"


VALID = {
    "nothing": 0,
    "SGI": PENDING,
    "PPI": PENDING | 27,
    "SPI": PENDING | GROUP1 | 1019,
    "LPI": PENDING | 8192,
    "last LPI": PENDING | 0xFFFF,
    "active": ACTIVE | 32,
    "pending and active": BOTH | 32,
    "EOI maintenance": PENDING | EOI | 32,
    "highest priority": PENDING | 32,
    "lowest priority": PENDING | 0xF8 << 48 | 32,
    "inactive garbage": HW | 0x1FFF << 32 | 0xFF << 48 | 1023,
}
INVALID = {
    "HW": PENDING | HW | 32,
    "pINTID": PENDING | 1 << 32 | 32,
    "pINTID bit 8": PENDING | 1 << 40 | 32,
    "pINTID bit 10": PENDING | 1 << 42 | 32,
    "RES0 45": PENDING | 1 << 45 | 32,
    "RES0 47": PENDING | 1 << 47 | 32,
    "RES0 56": PENDING | 1 << 56 | 32,
    "RES0 59": PENDING | 1 << 59 | 32,
    "priority bit 0": PENDING | 1 << 48 | 32,
    "priority bit 2": PENDING | 4 << 48 | 32,
    "special": PENDING | 1020,
    "spurious": PENDING | 1023,
    "between SPI and LPI": PENDING | 1024,
    "extended SPI": PENDING | 4096,
    "below LPI": PENDING | 8191,
    "beyond LPI": PENDING | 1 << 16,
    "32 bits": PENDING | 0xFFFF_FFFF,
}


@pytest.mark.parametrize("value", VALID.values(), ids=VALID)
def test_valid_list_registers(value: int) -> None:
    bench = Running()
    assert bench.enter(lrs=[0, value]).ich.lr[:2] == [0, value]


@pytest.mark.parametrize("value", INVALID.values(), ids=INVALID)
@pytest.mark.parametrize("index", [0, 3])
def test_invalid_list_registers(value: int, index: int) -> None:
    bench = Running()
    lrs = [0] * 16
    lrs[index] = value
    result = bench.refused(lrs=lrs)
    assert (result.code, result.label) == ((3, 0), "rec_gicv3")


@pytest.mark.parametrize("value", [INVALID["HW"], PENDING | 32])
def test_list_registers_that_are_not_implemented_are_ignored(value: int) -> None:
    bench = Running()
    assert bench.enter(lrs=[PENDING | 32, 0, 0, 0, *[value] * 12]).ich.lr == [PENDING | 32, *[0] * 15]


def test_an_interrupt_is_in_one_list_register() -> None:
    bench = Running()
    assert bench.refused(lrs=[PENDING | 32, ACTIVE | GROUP1 | 32]).label == "rec_gicv3"
    bench.enter(lrs=[PENDING | 32, 32, PENDING | 33])


def test_an_exit_reports_the_virtual_interface() -> None:
    bench = Running()
    ich = bench.enter(hcr=0x40FE, lrs=[PENDING | 32, ACTIVE | 33]).ich
    ich.hcr |= 5 << 27
    ich.lr[0] = 0
    ich.vmcr = 0xF8 << 24 | 0x1F
    ich.ap1r[0] = 1 << 20
    record = bench.interrupt()
    assert record.gicv3_hcr == 5 << 27 | 0x40FE
    assert record.gicv3_lrs == (0, ACTIVE | 33, *[0] * 14)
    assert record.gicv3_vmcr == 0xF8 << 24 | 0x1F
    assert ich.hcr == 0
    assert bench.enter().ich.ap1r[0] == 1 << 20
    assert ich.vmcr == 0xF8 << 24 | 0x1F, "the RMM keeps it"
    assert bench.interrupt().gicv3_hcr == 0, "EOIcount starts at zero"


@given(
    st.integers(0, GICV3_HCR_HOST_MASK).map(lambda bits: bits & GICV3_HCR_HOST_MASK | ICH_HCR.mask("En")),
    st.integers(0, 31),
    st.integers(0, 3),
    st.lists(st.sampled_from([0, EOI, HW | EOI, PENDING | 32, PENDING | EOI, ACTIVE, BOTH]), min_size=4, max_size=4),
)
def test_misr_is_that_of_the_hardware(hcr: int, eoi_count: int, groups: int, lrs: list[int]) -> None:
    ich = IchState(hcr=hcr | eoi_count << 27, vmcr=groups, lr=[*lrs, *[0] * 12])
    assert lists.misr(ich) == VirtualCpuInterface(ich, lambda intid: None).misr()
