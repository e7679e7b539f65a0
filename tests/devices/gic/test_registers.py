"""Registers of the distributor and redistributor frames."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realmkit.devices import MmioDevice
from realmkit.devices.gic import DISTRIBUTOR_SIZE, REDISTRIBUTOR_SIZE, Gicv3
from tests.devices.gic.kit import (
    CTLR,
    ICFGR,
    IGROUPR,
    IGRPMODR,
    IPRIORITYR,
    IROUTER,
    ISENABLER,
    ISPENDR,
    ONES,
    TYPER,
    WAKER,
    emulated,
    physical,
    private,
)


@pytest.mark.parametrize(("spis", "lines"), [(0, 0), (1, 1), (32, 1), (33, 2), (224, 7), (960, 30), (988, 31)])
def test_typer_counts_interrupt_lines(spis: int, lines: int) -> None:
    assert Gicv3((0,), spis=spis).distributor.read(TYPER, 4) & 0x1F == lines


@pytest.mark.parametrize(("two", "bit"), [(False, 0), (True, 1)])
def test_typer_tells_security_states(two: bool, bit: int) -> None:
    assert Gicv3((0,), two_security_states=two).distributor.read(TYPER, 4) >> 10 & 1 == bit


def test_typer_has_no_lpis_and_ten_intid_bits() -> None:
    typer = emulated().distributor.read(TYPER, 4)
    assert typer >> 17 & 1 == 0
    assert typer >> 19 & 0x1F == 9


def test_ctlr_of_a_single_security_state() -> None:
    gic = Gicv3((0,))
    assert gic.distributor.read(CTLR, 4) == 0x50
    gic.distributor.write(CTLR, 4, 0x1)
    assert gic.distributor.read(CTLR, 4) == 0x51
    gic.distributor.write(CTLR, 4, 0x2)
    assert gic.distributor.read(CTLR, 4) == 0x52


def test_ctlr_of_non_secure_software() -> None:
    gic = Gicv3((0,), two_security_states=True)
    assert gic.distributor.read(CTLR, 4) == 0x10
    gic.distributor.write(CTLR, 4, ONES)
    assert gic.distributor.read(CTLR, 4) == 0x12
    assert gic.secure_distributor.read(CTLR, 4) == 0x37
    gic.distributor.write(CTLR, 4, 0)
    assert gic.secure_distributor.read(CTLR, 4) == 0x35


def test_ctlr_of_secure_software() -> None:
    gic = Gicv3((0,), two_security_states=True)
    gic.secure_distributor.write(CTLR, 4, 0x2)
    assert gic.secure_distributor.read(CTLR, 4) == 0x32


@pytest.mark.parametrize(
    ("offset", "value"),
    [(0x0008, 0x43B), (0xFFE0, 0x92), (0xFFE4, 0xB4), (0xFFE8, 0x3B), (0xFFF0, 0x0D), (0xFFF4, 0xF0), (0xFFF8, 5)],
    ids=hex,
)
def test_distributor_identification(offset: int, value: int) -> None:
    assert emulated().distributor.read(offset, 4) == value


def test_redistributor_identification() -> None:
    region = emulated().redistributors
    for base in (0, 0x1_0000, REDISTRIBUTOR_SIZE):
        assert region.read(base + 0xFFE8, 4) == 0x3B
    assert region.read(4, 4) == 0x43B


@pytest.mark.parametrize(
    ("pe", "typer"),
    [(0, 0), (1, 0x0000_0100_0000_0100), (2, 0x0001_0000_0000_0200), (3, 0x0001_0100_0000_0310)],
)
def test_gicr_typer_names_the_pe(pe: int, typer: int) -> None:
    gic, _ = physical(4)
    base = pe * REDISTRIBUTOR_SIZE + 8
    assert gic.redistributors.read(base, 8) == typer
    assert gic.redistributors.read(base, 4) == typer & ONES
    assert gic.redistributors.read(base + 4, 4) == typer >> 32


def test_gicr_typer_holds_aff3() -> None:
    assert Gicv3((0x12_8034_5678,)).redistributors.read(8, 8) >> 32 == 0x1234_5678


def test_region_ends_after_the_last_pe() -> None:
    region = emulated(pes=2).redistributors
    assert region.size == 2 * REDISTRIBUTOR_SIZE
    assert region.read(region.size + 0xFFE8, 4) == 0
    region.write(region.size + WAKER, 4, 0x2)


@pytest.mark.parametrize("register", [ISENABLER, ISPENDR, 0x300])
def test_set_and_clear_registers(register: int) -> None:
    distributor = emulated().distributor
    offset = register + 4
    distributor.write(offset, 4, 0xF0)
    distributor.write(offset, 4, 0x0F)
    assert distributor.read(offset, 4) == 0xFF
    assert distributor.read(offset + 0x80, 4) == 0xFF
    distributor.write(offset + 0x80, 4, 0x3C)
    assert distributor.read(offset, 4) == 0xC3


def test_private_interrupts_are_not_in_the_distributor() -> None:
    distributor = emulated().distributor
    for register in (IGROUPR, ISENABLER, ISPENDR, 0x300, IPRIORITYR, ICFGR, IGRPMODR):
        distributor.write(register, 4, ONES)
        assert distributor.read(register, 4) == 0
    distributor.write(IROUTER, 8, 1)
    assert distributor.read(IROUTER, 8) == 0


def test_last_word_holds_only_interrupts_that_exist() -> None:
    distributor = Gicv3((0,), spis=988).distributor
    distributor.write(ISENABLER + 124, 4, ONES)
    assert distributor.read(ISENABLER + 124, 4) == 0x0FFF_FFFF
    distributor.write(IPRIORITYR + 1020, 4, ONES)
    assert distributor.read(IPRIORITYR + 1020, 4) == 0


def test_priorities_have_five_bits_and_byte_access() -> None:
    distributor = emulated().distributor
    distributor.write(IPRIORITYR + 40, 4, 0xFFA7_4083)
    assert distributor.read(IPRIORITYR + 40, 4) == 0xF8A0_4080
    distributor.write(IPRIORITYR + 41, 1, 0x18)
    assert [distributor.read(IPRIORITYR + 40 + lane, 1) for lane in range(4)] == [0x80, 0x18, 0xA0, 0xF8]
    assert distributor.read(IPRIORITYR + 42, 2) == 0xF8A0


def test_config_of_private_interrupts() -> None:
    region = emulated().redistributors
    assert region.read(private(0, ICFGR), 4) == 0xAAAA_AAAA
    region.write(private(0, ICFGR), 4, 0)
    assert region.read(private(0, ICFGR), 4) == 0xAAAA_AAAA
    assert region.read(private(0, ICFGR + 4), 4) == 0
    region.write(private(0, ICFGR + 4), 4, ONES)
    assert region.read(private(0, ICFGR + 4), 4) == 0xAAAA_AAAA
    assert region.read(private(1, ICFGR + 4), 4) == 0


def test_router_is_64_bits_wide() -> None:
    distributor = emulated().distributor
    offset = IROUTER + 8 * 33
    distributor.write(offset, 8, 0x12_8034_5678)
    assert distributor.read(offset, 8) == 0x12_8034_5678
    distributor.write(offset, 4, 0x1)
    assert distributor.read(offset, 8) == 0x12_0000_0001
    distributor.write(offset + 4, 4, 0xFFFF_FFFF)
    assert distributor.read(offset + 4, 4) == 0xFF
    assert distributor.read(offset, 2) == 0


class TestNonSecureView:
    """With two security states, Non-secure software sees Non-secure Group 1 only (SPI 56 is Group 0)."""

    def test_bits_of_secure_interrupts_read_as_zero_and_ignore_writes(self) -> None:
        gic, _ = physical()
        gic.distributor.write(ISENABLER + 4, 4, ONES)
        assert gic.distributor.read(ISENABLER + 4, 4) == 0xFEFF_FFFF
        assert gic.secure_distributor.read(ISENABLER + 4, 4) == 0xFEFF_FFFF
        gic.secure_distributor.write(ISENABLER + 4, 4, ONES)
        assert gic.secure_distributor.read(ISENABLER + 4, 4) == ONES
        assert gic.distributor.read(ISENABLER + 4, 4) == 0xFEFF_FFFF
        gic.distributor.write(ISENABLER + 0x84, 4, ONES)
        assert gic.secure_distributor.read(ISENABLER + 4, 4) == 1 << 24

    def test_groups_cannot_be_seen_or_changed(self) -> None:
        gic, _ = physical()
        for register in (IGROUPR, IGRPMODR):
            gic.distributor.write(register + 4, 4, 0)
            assert gic.distributor.read(register + 4, 4) == 0
        assert gic.secure_distributor.read(IGROUPR + 4, 4) == 0xFEFF_FFFF
        gic.redistributors.write(private(0, IGROUPR), 4, 0)
        assert gic.secure_redistributors.read(private(0, IGROUPR), 4) == ONES

    @pytest.mark.parametrize(("written", "seen", "held"), [(0xFF, 0xF0, 0xF8), (0, 0, 0x80), (0xA0, 0xA0, 0xD0)])
    def test_priorities_are_in_the_lower_half(self, written: int, seen: int, held: int) -> None:
        gic, _ = physical()
        gic.distributor.write(IPRIORITYR + 40, 1, written)
        assert gic.distributor.read(IPRIORITYR + 40, 1) == seen
        assert gic.secure_distributor.read(IPRIORITYR + 40, 1) == held

    def test_secure_priority_reads_as_the_highest(self) -> None:
        gic, _ = physical()
        gic.secure_distributor.write(IPRIORITYR + 40, 1, 0x40)
        assert gic.distributor.read(IPRIORITYR + 40, 1) == 0

    def test_router_config_and_priority_of_a_secure_interrupt(self) -> None:
        gic, _ = physical()
        gic.distributor.write(IROUTER + 8 * 56, 8, 0x100)
        gic.distributor.write(ICFGR + 12, 4, ONES)
        gic.distributor.write(IPRIORITYR + 56, 1, 0xFF)
        assert gic.secure_distributor.read(IROUTER + 8 * 56, 8) == 0
        assert gic.secure_distributor.read(ICFGR + 12, 4) == 0xAAA8_AAAA
        assert gic.secure_distributor.read(IPRIORITYR + 56, 1) == 0

    def test_waker_is_not_non_secure(self) -> None:
        gic, _ = physical()
        gic.redistributors.write(WAKER, 4, 0x2)
        assert gic.redistributors.read(WAKER, 4) == 0
        assert gic.secure_redistributors.read(WAKER, 4) == 0

    def test_secure_software_chooses_groups(self) -> None:
        gic, _ = physical()
        gic.secure_distributor.write(IGROUPR + 4, 4, 0)
        gic.secure_distributor.write(IGRPMODR + 4, 4, 0x1)
        assert gic.secure_distributor.read(IGRPMODR + 4, 4) == 1
        assert (gic.group_of(0, 32), gic.group_of(0, 33)) == (2, 0)


def test_group_modifier_does_not_exist_with_a_single_state() -> None:
    gic = emulated()
    gic.distributor.write(IGRPMODR + 4, 4, ONES)
    assert gic.distributor.read(IGRPMODR + 4, 4) == 0


@pytest.mark.parametrize("size", [1, 2, 8])
def test_word_registers_answer_words_only(size: int) -> None:
    distributor = emulated().distributor
    distributor.write(ISENABLER + 4, size, ONES)
    assert distributor.read(ISENABLER + 4, 4) == 0
    assert distributor.read(TYPER, size) == 0


_accesses = st.lists(
    st.tuples(
        st.booleans(),
        st.booleans(),
        st.integers(0, 3 * REDISTRIBUTOR_SIZE),
        st.sampled_from([1, 2, 4, 8]),
        st.integers(0, (1 << 64) - 1),
    ),
    max_size=30,
)


@settings(max_examples=60)
@given(two=st.booleans(), accesses=_accesses)
def test_no_access_fails_and_every_value_fits(two: bool, accesses: list[tuple[bool, bool, int, int, int]]) -> None:
    gic = Gicv3((0, 1), spis=988, two_security_states=two, secure_intids={56})
    for distributor, secure, offset, size, value in accesses:
        frame: MmioDevice = gic.secure_redistributors if secure else gic.redistributors
        if distributor:
            frame = gic.secure_distributor if secure else gic.distributor
            offset %= DISTRIBUTOR_SIZE
        frame.write(offset, size, value)
        assert 0 <= frame.read(offset, size) < 1 << 8 * size
        gic.highest_pending(0)
