"""The physical CPU interface: acknowledge, priorities, end of interrupt."""

import pytest

from realmkit.devices.gic import CpuInterface, Gicv3
from tests.devices.gic.kit import CTLR, IPRIORITYR, ISENABLER, ONES, emulated, enable, physical, set_bit

SPURIOUS = 1023


def single(*, bpr1: int = 3) -> tuple[Gicv3, CpuInterface]:
    """A PE with a single security state, all priorities let through."""
    gic = emulated(pes=1)
    interface = CpuInterface(gic, 0)
    interface.write("ICC_PMR_EL1", 0xFF)
    interface.write("ICC_BPR1_EL1", bpr1)
    interface.write("ICC_IGRPEN1_EL1", 1)
    return gic, interface


def raise_spi(gic: Gicv3, intid: int, priority: int) -> None:
    enable(gic, 0, intid, priority)
    gic.set_spi(intid, True)


def test_acknowledge_and_end() -> None:
    gic, interface = single()
    raise_spi(gic, 40, 0xA0)
    assert interface.irq_pending()
    assert not interface.fiq_pending()
    assert interface.read("ICC_HPPIR1_EL1") == 40
    assert interface.read("ICC_IAR1_EL1") == 40
    assert interface.read("ICC_RPR_EL1") == 0xA0
    assert interface.read("ICC_AP1R0_EL1") == 1 << (0xA0 >> 3)
    assert not interface.irq_pending()
    gic.set_spi(40, False)
    interface.write("ICC_EOIR1_EL1", 40)
    assert interface.read("ICC_RPR_EL1") == 0xFF
    assert not gic.is_active(0, 40)


def test_nothing_pending_is_spurious() -> None:
    _, interface = single()
    for name in ("ICC_IAR1_EL1", "ICC_IAR0_EL1", "ICC_HPPIR1_EL1", "ICC_HPPIR0_EL1"):
        assert interface.read(name) == SPURIOUS


@pytest.mark.parametrize(
    ("mask", "priority", "pending"),
    [(0xFF, 0xF0, True), (0xA0, 0xA0, False), (0xA0, 0x98, True), (0, 0, False), (0xA7, 0xA0, False)],
)
def test_priority_mask(mask: int, priority: int, pending: bool) -> None:
    gic, interface = single()
    interface.write("ICC_PMR_EL1", mask)
    raise_spi(gic, 40, priority)
    assert interface.irq_pending() is pending
    assert interface.read("ICC_IAR1_EL1") == (40 if pending else SPURIOUS)


def test_highest_pending_register_ignores_the_mask() -> None:
    gic, interface = single()
    interface.write("ICC_PMR_EL1", 0)
    raise_spi(gic, 40, 0xA0)
    assert interface.read("ICC_HPPIR1_EL1") == 40


@pytest.mark.parametrize(
    ("bpr1", "running", "pending", "preempts"),
    [
        (3, 0xA0, 0x98, True),
        (3, 0xA0, 0xA0, False),
        (3, 0xA0, 0xA8, False),
        (5, 0xA0, 0x98, True),
        (5, 0xB8, 0xA0, False),
        (7, 0x78, 0x08, False),
        (7, 0x80, 0x78, True),
    ],
)
def test_preemption_by_binary_point(bpr1: int, running: int, pending: int, preempts: bool) -> None:
    gic, interface = single(bpr1=bpr1)
    raise_spi(gic, 40, running)
    assert interface.read("ICC_IAR1_EL1") == 40
    raise_spi(gic, 41, pending)
    assert interface.irq_pending() is preempts
    assert interface.read("ICC_IAR1_EL1") == (41 if preempts else SPURIOUS)


def test_nested_interrupts_end_in_reverse_order() -> None:
    gic, interface = single()
    for intid, priority in ((40, 0xA0), (41, 0x80), (42, 0x40)):
        raise_spi(gic, intid, priority)
        assert interface.read("ICC_IAR1_EL1") == intid
    seen = []
    for intid in (42, 41, 40):
        seen.append(interface.read("ICC_RPR_EL1"))
        gic.set_spi(intid, False)
        interface.write("ICC_EOIR1_EL1", intid)
    assert seen == [0x40, 0x80, 0xA0]
    assert interface.read("ICC_RPR_EL1") == 0xFF


def test_split_priority_drop_and_deactivation() -> None:
    gic, interface = single()
    interface.write("ICC_CTLR_EL1", 0x2)
    raise_spi(gic, 40, 0xA0)
    assert interface.read("ICC_IAR1_EL1") == 40
    interface.write("ICC_EOIR1_EL1", 40)
    assert interface.read("ICC_RPR_EL1") == 0xFF
    assert gic.is_active(0, 40)
    assert not interface.irq_pending()
    interface.write("ICC_DIR_EL1", 40)
    assert not gic.is_active(0, 40)
    assert interface.irq_pending()


def test_deactivation_register_needs_eoimode() -> None:
    gic, interface = single()
    raise_spi(gic, 40, 0xA0)
    assert interface.read("ICC_IAR1_EL1") == 40
    interface.write("ICC_DIR_EL1", 40)
    assert gic.is_active(0, 40)


@pytest.mark.parametrize(("name", "intid"), [("ICC_EOIR0_EL1", 40), ("ICC_EOIR1_EL1", 1020), ("ICC_EOIR1_EL1", 1023)])
def test_end_that_does_not_belong_is_ignored(name: str, intid: int) -> None:
    gic, interface = single()
    raise_spi(gic, 40, 0xA0)
    assert interface.read("ICC_IAR1_EL1") == 40
    interface.write(name, intid)
    assert gic.is_active(0, 40)
    assert interface.read("ICC_RPR_EL1") == 0xA0


def test_end_of_the_group_that_is_preempted_is_ignored() -> None:
    gic, interface = single()
    interface.write("ICC_IGRPEN0_EL1", 1)
    raise_spi(gic, 40, 0xA0)
    assert interface.read("ICC_IAR1_EL1") == 40
    gic.distributor.write(0x84, 4, ONES & ~(1 << 9))
    raise_spi(gic, 41, 0x40)
    assert interface.read("ICC_IAR0_EL1") == 41
    interface.write("ICC_EOIR1_EL1", 40)
    assert gic.is_active(0, 40)
    assert interface.read("ICC_RPR_EL1") == 0x40
    interface.write("ICC_EOIR0_EL1", 41)
    interface.write("ICC_EOIR1_EL1", 40)
    assert not gic.is_active(0, 40)


def test_end_without_active_interrupt_deactivates_nothing() -> None:
    gic, interface = single()
    raise_spi(gic, 40, 0xA0)
    set_bit(gic, 0, 0x300, 40)
    interface.write("ICC_EOIR1_EL1", 40)
    assert gic.is_active(0, 40)


@pytest.mark.parametrize(
    ("name", "written", "read"),
    [
        ("ICC_PMR_EL1", 0xFF, 0xF8),
        ("ICC_PMR_EL1", 0x1_0047, 0x40),
        ("ICC_BPR0_EL1", 0, 2),
        ("ICC_BPR0_EL1", 5, 5),
        ("ICC_BPR1_EL1", 0, 3),
        ("ICC_BPR1_EL1", 7, 7),
        ("ICC_IGRPEN0_EL1", 3, 1),
        ("ICC_IGRPEN1_EL1", 2, 0),
        ("ICC_CTLR_EL1", 0xFFFF_FFFF, 0x4_8403),
        ("ICC_CTLR_EL1", 0, 0x4_8400),
        ("ICC_SRE_EL1", 0, 0x7),
        ("ICC_SRE_EL2", 0, 0xF),
        ("ICC_AP0R0_EL1", 0x8, 0x8),
        ("ICC_AP1R0_EL1", 0x1_0000_0010, 0x10),
        ("ICC_EOIR1_EL1", 1, 0),
        ("ICC_SGI1R_EL1", 0, 0),
        ("ICC_NONE_EL1", 1, 0),
    ],
)
def test_registers_of_a_single_security_state(name: str, written: int, read: int) -> None:
    _, interface = single()
    interface.write(name, written)
    assert interface.read(name) == read


def test_common_binary_point() -> None:
    _, interface = single()
    interface.write("ICC_BPR0_EL1", 4)
    interface.write("ICC_BPR1_EL1", 6)
    interface.write("ICC_CTLR_EL1", 1)
    assert interface.read("ICC_BPR1_EL1") == 5
    interface.write("ICC_BPR1_EL1", 7)
    interface.write("ICC_BPR0_EL1", 7)
    assert interface.read("ICC_BPR1_EL1") == 7
    interface.write("ICC_CTLR_EL1", 0)
    assert interface.read("ICC_BPR1_EL1") == 6


def test_common_binary_point_decides_preemption_of_group_1() -> None:
    gic, interface = single()
    interface.write("ICC_BPR0_EL1", 6)
    interface.write("ICC_CTLR_EL1", 1)
    raise_spi(gic, 40, 0x78)
    assert interface.read("ICC_IAR1_EL1") == 40
    raise_spi(gic, 41, 0x10)
    assert not interface.irq_pending()


def test_group_0_is_fiq() -> None:
    gic = Gicv3((0,), spis=32)
    interface = CpuInterface(gic, 0)
    gic.distributor.write(CTLR, 4, 0x3)
    interface.write("ICC_PMR_EL1", 0xFF)
    interface.write("ICC_IGRPEN0_EL1", 1)
    raise_spi(gic, 40, 0x20)
    assert interface.fiq_pending()
    assert not interface.irq_pending()
    assert interface.read("ICC_IAR1_EL1") == SPURIOUS
    assert interface.read("ICC_HPPIR0_EL1") == 40
    assert interface.read("ICC_IAR0_EL1") == 40
    assert interface.read("ICC_AP0R0_EL1") == 1 << 4
    interface.write("ICC_EOIR1_EL1", 40)
    assert gic.is_active(0, 40)
    interface.write("ICC_EOIR0_EL1", 40)
    assert not gic.is_active(0, 40)


def test_disabled_group_is_not_signalled() -> None:
    gic, interface = single()
    interface.write("ICC_IGRPEN1_EL1", 0)
    raise_spi(gic, 40, 0xA0)
    assert not interface.irq_pending()
    assert interface.read("ICC_IAR1_EL1") == SPURIOUS
    assert interface.read("ICC_HPPIR1_EL1") == SPURIOUS
    interface.write("ICC_IGRPEN1_EL1", 1)
    assert interface.irq_pending()


def test_sgi_between_pes() -> None:
    gic, (first, second) = physical()
    enable(gic, 1, 5)
    first.write("ICC_SGI1R_EL1", 1 << 16 | 5 << 24 | 0x1)
    assert not first.irq_pending()
    assert second.irq_pending()
    assert second.read("ICC_IAR1_EL1") == 5
    second.write("ICC_EOIR1_EL1", 5)
    assert not second.irq_pending()


@pytest.mark.parametrize(("name", "received"), [("ICC_SGI0R_EL1", True), ("ICC_ASGI1R_EL1", True)])
def test_group_0_sgi_of_a_single_state(name: str, received: bool) -> None:
    gic = Gicv3((0,), spis=32)
    interface = CpuInterface(gic, 0)
    interface.write(name, 2 << 24 | 1)
    assert gic.is_pending(0, 2) is received


def test_reset() -> None:
    gic, interface = single()
    raise_spi(gic, 40, 0xA0)
    assert interface.read("ICC_IAR1_EL1") == 40
    interface.reset()
    assert interface.read("ICC_RPR_EL1") == 0xFF
    assert interface.read("ICC_PMR_EL1") == 0
    assert interface.read("ICC_IGRPEN1_EL1") == 0


class TestTwoSecurityStates:
    def test_priorities_are_shifted(self) -> None:
        gic, (interface, _) = physical()
        interface.write("ICC_PMR_EL1", 0xA0)
        assert interface.read("ICC_PMR_EL1") == 0xA0
        raise_spi(gic, 40, 0xA0)
        raise_spi(gic, 41, 0x90)
        assert interface.read("ICC_IAR1_EL1") == 41
        assert interface.read("ICC_RPR_EL1") == 0x90
        interface.secure = True
        assert interface.read("ICC_PMR_EL1") == 0xD0
        assert interface.read("ICC_RPR_EL1") == 0xC8

    def test_least_mask_bit_tells_that_group_0_is_not_ours(self) -> None:
        """How Linux finds out: the least implemented bit does not stick."""
        _, (interface, _) = physical()
        interface.write("ICC_PMR_EL1", 0x08)
        assert interface.read("ICC_PMR_EL1") == 0

    def test_secure_mask_is_out_of_reach(self) -> None:
        _, (interface, _) = physical()
        interface.secure = True
        interface.write("ICC_PMR_EL1", 0x40)
        interface.secure = False
        interface.write("ICC_PMR_EL1", 0xFF)
        assert interface.read("ICC_PMR_EL1") == 0
        interface.secure = True
        assert interface.read("ICC_PMR_EL1") == 0x40

    @pytest.mark.parametrize(
        ("name", "read"),
        [
            ("ICC_IAR0_EL1", SPURIOUS),
            ("ICC_HPPIR0_EL1", SPURIOUS),
            ("ICC_BPR0_EL1", 0),
            ("ICC_IGRPEN0_EL1", 0),
            ("ICC_AP0R0_EL1", 0),
        ],
    )
    def test_group_0_registers_are_not_non_secure(self, name: str, read: int) -> None:
        _, (interface, _) = physical()
        interface.write(name, 0xFF)
        assert interface.read(name) == read
        interface.secure = True
        assert interface.read("ICC_IGRPEN0_EL1") == 1

    @pytest.mark.parametrize(("name", "group0"), [("ICC_SGI0R_EL1", True), ("ICC_ASGI1R_EL1", False)])
    def test_secure_sgis_cannot_be_sent(self, name: str, group0: bool) -> None:
        gic = Gicv3((0,), two_security_states=True, secure_intids={2})
        if not group0:
            gic.secure_redistributors.write(0x1_0D00, 4, 1 << 2)
        interface = CpuInterface(gic, 0)
        interface.write(name, 2 << 24 | 1)
        assert not gic.is_pending(0, 2)

    def test_common_binary_point_is_el3s(self) -> None:
        _, (interface, _) = physical()
        interface.write("ICC_CTLR_EL1", 0x3)
        assert interface.read("ICC_CTLR_EL1") & 0x3 == 0x2

    def test_secure_interrupt_is_fiq_and_cannot_be_ended_from_non_secure_state(self) -> None:
        gic, (interface, _) = physical()
        gic.secure_distributor.write(IPRIORITYR + 56, 1, 0x10)
        gic.secure_distributor.write(ISENABLER + 4, 4, 1 << 24)
        gic.set_spi(56, True)
        assert interface.fiq_pending()
        assert not interface.irq_pending()
        assert interface.read("ICC_IAR1_EL1") == SPURIOUS
        interface.secure = True
        assert interface.read("ICC_IAR0_EL1") == 56
        interface.secure = False
        assert interface.read("ICC_RPR_EL1") == 0
        interface.write("ICC_CTLR_EL1", 0x2)
        interface.write("ICC_DIR_EL1", 56)
        interface.write("ICC_EOIR1_EL1", 56)
        assert gic.is_active(0, 56)
        interface.secure = True
        interface.write("ICC_EOIR0_EL1", 56)
        assert not gic.is_active(0, 56)

    def test_non_secure_interrupt_is_fiq_in_secure_state(self) -> None:
        gic, (interface, _) = physical()
        raise_spi(gic, 40, 0xA0)
        interface.secure = True
        assert interface.fiq_pending()
        assert not interface.irq_pending()
        assert interface.read("ICC_IAR1_EL1") == SPURIOUS

    def test_group_1_registers_are_banked(self) -> None:
        _, (interface, _) = physical()
        interface.write("ICC_BPR1_EL1", 5)
        interface.secure = True
        assert interface.read("ICC_BPR1_EL1") == 2
        interface.write("ICC_IGRPEN1_EL1", 0)
        interface.secure = False
        assert interface.read("ICC_BPR1_EL1") == 5
        assert interface.read("ICC_IGRPEN1_EL1") == 1

    def test_secure_group_1(self) -> None:
        gic, (interface, _) = physical()
        gic.secure_distributor.write(0x84, 4, 0)
        gic.secure_distributor.write(0xD04, 4, ONES)
        gic.secure_distributor.write(ISENABLER + 4, 4, 1 << 8)
        gic.set_spi(40, True)
        assert interface.fiq_pending()
        interface.secure = True
        assert interface.irq_pending()
        assert interface.read("ICC_IAR1_EL1") == 40
        assert interface.read("ICC_AP1R0_EL1") == 1
        interface.write("ICC_EOIR1_EL1", 40)
        assert not gic.is_active(0, 40)
