"""Routing and states of interrupts."""

import pytest

from realmkit.arch.errors import RealmkitError
from realmkit.arch.gic import GROUP0, GROUP1, GROUP1_SECURE
from realmkit.devices.gic import Gicv3
from tests.devices.gic.kit import (
    CTLR,
    ICACTIVER,
    ICENABLER,
    ICPENDR,
    IROUTER,
    ISACTIVER,
    ISPENDR,
    WAKER,
    emulated,
    enable,
    get_bit,
    physical,
    set_bit,
    set_edge,
    set_priority,
)

ANY_PE = 1 << 31


def test_nothing_is_pending_after_reset() -> None:
    assert emulated().highest_pending(0) is None


@pytest.mark.parametrize(("affinities", "spis"), [((), 32), ((0, 0x8000_0000), 32), ((0,), -1), ((0,), 989)], ids=str)
def test_impossible_configuration_is_refused(affinities: tuple[int, ...], spis: int) -> None:
    with pytest.raises(RealmkitError, match="GICv3"):
        Gicv3(affinities, spis=spis)


def test_secure_interrupt_must_exist() -> None:
    with pytest.raises(RealmkitError, match="no interrupt 400"):
        Gicv3((0,), spis=32, two_security_states=True, secure_intids={400})


@pytest.mark.parametrize("intid", [31, 96, 1020])
def test_signal_of_an_spi_that_does_not_exist(intid: int) -> None:
    with pytest.raises(RealmkitError, match="is not an SPI"):
        emulated(spis=64).set_spi(intid, True)


@pytest.mark.parametrize("intid", [15, 32])
def test_signal_of_a_ppi_that_does_not_exist(intid: int) -> None:
    with pytest.raises(RealmkitError, match="is not a PPI"):
        emulated().set_ppi(0, intid, True)


@pytest.mark.parametrize("intid", [16, 27, 31])
def test_ppi_goes_to_its_pe_only(intid: int) -> None:
    gic = emulated()
    for pe in (0, 1):
        enable(gic, pe, intid)
    gic.set_ppi(1, intid, True)
    assert gic.highest_pending(0) is None
    assert gic.highest_pending(1) == (intid, 0xA0, GROUP1)


def test_lower_priority_value_then_lower_intid_comes_first() -> None:
    gic = emulated()
    for intid, priority in ((40, 0x80), (41, 0x40), (27, 0x80), (26, 0x80)):
        enable(gic, 0, intid, priority)
        if intid < 32:
            gic.set_ppi(0, intid, True)
        else:
            gic.set_spi(intid, True)
    assert [intid for intid, _, _ in gic.pending_interrupts(0)] == [41, 26, 27, 40]
    assert gic.highest_pending(0) == (41, 0x40, GROUP1)


class TestLevelSensitive:
    def test_is_pending_while_asserted(self) -> None:
        gic = emulated()
        enable(gic, 0, 40)
        gic.set_spi(40, True)
        assert get_bit(gic, 0, ISPENDR, 40) == 1
        gic.set_spi(40, False)
        assert gic.highest_pending(0) is None
        assert get_bit(gic, 0, ISPENDR, 40) == 0

    def test_cannot_be_cleared_while_asserted(self) -> None:
        gic = emulated()
        enable(gic, 0, 40)
        gic.set_spi(40, True)
        set_bit(gic, 0, ICPENDR, 40)
        assert gic.highest_pending(0) is not None

    def test_is_active_and_pending_when_acknowledged_while_asserted(self) -> None:
        gic = emulated()
        enable(gic, 0, 40)
        gic.set_spi(40, True)
        gic.acknowledge(0, 40)
        assert gic.is_active(0, 40)
        assert gic.is_pending(0, 40)
        assert gic.highest_pending(0) is None
        gic.deactivate(0, 40)
        assert gic.highest_pending(0) == (40, 0xA0, GROUP1)

    def test_pending_state_written_by_software_ends_with_the_acknowledgement(self) -> None:
        gic = emulated()
        enable(gic, 0, 40)
        set_bit(gic, 0, ISPENDR, 40)
        gic.acknowledge(0, 40)
        gic.deactivate(0, 40)
        assert gic.highest_pending(0) is None


class TestEdgeTriggered:
    def test_pulse_is_latched_until_acknowledged(self) -> None:
        gic = emulated()
        set_edge(gic, 0, 40, True)
        enable(gic, 0, 40)
        gic.set_spi(40, True)
        gic.set_spi(40, False)
        assert gic.highest_pending(0) == (40, 0xA0, GROUP1)
        gic.acknowledge(0, 40)
        gic.deactivate(0, 40)
        assert gic.highest_pending(0) is None

    def test_constant_level_is_one_interrupt(self) -> None:
        gic = emulated()
        set_edge(gic, 0, 40, True)
        enable(gic, 0, 40)
        gic.set_spi(40, True)
        gic.acknowledge(0, 40)
        gic.deactivate(0, 40)
        gic.set_spi(40, True)
        assert gic.highest_pending(0) is None

    def test_second_edge_while_active_waits(self) -> None:
        gic = emulated()
        set_edge(gic, 0, 40, True)
        enable(gic, 0, 40)
        for _ in range(2):
            gic.set_spi(40, True)
            if not gic.is_active(0, 40):
                gic.acknowledge(0, 40)
            gic.set_spi(40, False)
        assert gic.highest_pending(0) is None
        gic.deactivate(0, 40)
        assert gic.highest_pending(0) is not None

    def test_pending_state_can_be_cleared(self) -> None:
        gic = emulated()
        set_edge(gic, 0, 40, True)
        enable(gic, 0, 40)
        gic.set_spi(40, True)
        set_bit(gic, 0, ICPENDR, 40)
        assert gic.highest_pending(0) is None


def test_disabled_interrupt_stays_pending_and_is_delivered_once_enabled() -> None:
    gic = emulated()
    gic.set_ppi(0, 27, True)
    assert get_bit(gic, 0, ISPENDR, 27) == 1
    assert gic.highest_pending(0) is None
    enable(gic, 0, 27)
    assert gic.highest_pending(0) is not None
    set_bit(gic, 0, ICENABLER, 27)
    assert gic.highest_pending(0) is None


def test_active_state_is_software_visible() -> None:
    gic = emulated()
    enable(gic, 0, 40)
    gic.set_spi(40, True)
    set_bit(gic, 0, ISACTIVER, 40)
    assert gic.highest_pending(0) is None
    set_bit(gic, 0, ICACTIVER, 40)
    assert gic.highest_pending(0) is not None


def test_distributor_group_enables() -> None:
    gic = emulated()
    enable(gic, 0, 40)
    gic.set_spi(40, True)
    gic.distributor.write(CTLR, 4, 0x1)
    assert gic.highest_pending(0) is None
    gic.distributor.write(CTLR, 4, 0x2)
    assert gic.highest_pending(0) is not None


def test_interface_group_enables_choose_among_the_pending() -> None:
    gic, (interface, _) = physical()
    enable(gic, 0, 40, 0x80)
    gic.secure_distributor.write(0x400 + 56, 1, 0x10)
    gic.secure_distributor.write(0x100 + 4, 4, 1 << 24)
    gic.set_spi(40, True)
    gic.set_spi(56, True)
    assert gic.highest_pending(0) == (56, 0x10, GROUP0)
    interface.secure = True
    interface.write("ICC_IGRPEN0_EL1", 0)
    assert gic.highest_pending(0) == (40, 0xC0, GROUP1)


@pytest.mark.parametrize(
    ("route", "pe"), [(0x0, 0), (0x1, 1), (ANY_PE, 0), (ANY_PE | 1, 0), (0x2, None), (1 << 32, None)]
)
def test_spi_routing(route: int, pe: int | None) -> None:
    gic = emulated()
    gic.distributor.write(IROUTER + 8 * 40, 8, route)
    enable(gic, 0, 40)
    gic.set_spi(40, True)
    assert [gic.highest_pending(n) is not None for n in range(2)] == [n == pe for n in range(2)]


def test_sleeping_redistributor_forwards_nothing() -> None:
    gic = emulated()
    enable(gic, 0, 27)
    gic.set_ppi(0, 27, True)
    gic.redistributors.write(WAKER, 4, 0x2)
    assert gic.redistributors.read(WAKER, 4) == 0x6
    assert gic.highest_pending(0) is None
    gic.redistributors.write(WAKER, 4, 0)
    assert gic.redistributors.read(WAKER, 4) == 0
    assert gic.highest_pending(0) is not None


class TestSgi:
    AFFINITIES = (0x0, 0x1, 0x100, 0x1_0000, 0x1_0000_0000, 0x12)

    @pytest.mark.parametrize(
        ("value", "targets"),
        [
            (0x0001, {0}),
            (0x0003, {0, 1}),
            (1 << 16 | 0x1, {2}),
            (1 << 32 | 0x1, {3}),
            (1 << 48 | 0x1, {4}),
            (1 << 44 | 1 << 2, {5}),
            (0x8000, set()),
            (0x0000, set()),
            (1 << 40, {0, 2, 3, 4, 5}),
            (1 << 40 | 0x1, {0, 2, 3, 4, 5}),
        ],
    )
    def test_targets(self, value: int, targets: set[int]) -> None:
        """Sent by PE 1: IRM names all PEs but the sender."""
        gic = Gicv3(self.AFFINITIES, spis=32)
        gic.send_sgi(1, value | 5 << 24)
        assert {pe for pe in range(6) if gic.is_pending(pe, 5)} == targets

    @pytest.mark.parametrize(("group", "received"), [(GROUP0, False), (GROUP1, True), (GROUP1_SECURE, False)])
    def test_group_must_match_with_two_security_states(self, group: int, received: bool) -> None:
        gic, _ = physical()
        gic.send_sgi(0, 0x1 | 3 << 24, group)
        assert gic.is_pending(0, 3) is received

    @pytest.mark.parametrize(("group", "received"), [(GROUP0, True), (GROUP1, True)])
    def test_sgi1r_reaches_both_groups_with_a_single_state(self, group: int, received: bool) -> None:
        gic = Gicv3((0,), spis=32)
        assert gic.group_of(0, 3) == GROUP0
        gic.send_sgi(0, 0x1 | 3 << 24, group)
        assert gic.is_pending(0, 3) is received


def test_change_callback_names_the_pe() -> None:
    gic = emulated()
    changes: list[int] = []
    for pe in (0, 1):
        enable(gic, pe, 27)
    gic.on_change = changes.append
    gic.set_ppi(1, 27, True)
    gic.set_ppi(1, 27, True)
    assert changes == [1]
    gic.send_sgi(0, 1 << 0)
    assert changes == [1, 0]


def test_change_callback_for_an_spi_goes_to_its_target() -> None:
    gic = emulated()
    gic.distributor.write(IROUTER + 8 * 40, 8, 1)
    enable(gic, 0, 40)
    changes: list[int] = []
    gic.on_change = changes.append
    gic.set_spi(40, True)
    assert changes == [1]


@pytest.mark.parametrize("intid", [-1, 96, 1020, 1023, 8192, 1 << 23])
def test_unknown_intids_have_no_state(intid: int) -> None:
    gic = emulated(spis=64)
    gic.acknowledge(0, intid)
    gic.deactivate(0, intid)
    gic.set_pending(0, intid)
    assert not gic.is_active(0, intid)
    assert not gic.is_pending(0, intid)
    assert not gic.is_level(0, intid)
    assert gic.group_of(0, intid) is None


def test_set_pending_latches() -> None:
    gic = emulated()
    enable(gic, 0, 40)
    gic.set_pending(0, 40)
    assert gic.highest_pending(0) == (40, 0xA0, GROUP1)


def test_trigger_is_known() -> None:
    gic = emulated()
    assert [gic.is_level(0, intid) for intid in (3, 27, 40)] == [False, True, True]


def test_reset_forgets_everything() -> None:
    gic = emulated()
    enable(gic, 0, 40)
    set_priority(gic, 0, 40, 0x30)
    gic.set_spi(40, True)
    gic.acknowledge(0, 40)
    gic.reset()
    assert not gic.is_active(0, 40)
    assert not gic.is_pending(0, 40)
    assert gic.distributor.read(0x400 + 40, 1) == 0
    assert gic.distributor.read(CTLR, 4) == 0x50


def test_state_left_by_firmware() -> None:
    gic = Gicv3((0,), two_security_states=True, secure_intids={7, 56})
    assert [gic.group_of(0, intid) for intid in (0, 7, 27, 55, 56)] == [GROUP1, GROUP0, GROUP1, GROUP1, GROUP0]
