"""List registers: the emulated GIC and the guest's virtual interface, with a guest that acknowledges and ends."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realmkit.arch.gic import (
    ICH_HCR,
    ICH_LR,
    ICH_VMCR,
    LIST_REGISTERS,
    LR_PENDING_ACTIVE,
    PPI_CNTP,
    PPI_CNTV,
    SPURIOUS,
    IchState,
)
from realmkit.devices.gic import Gicv3, VirtualCpuInterface
from realmkit.host.interrupts import ListRegisters, drive_timers
from realmkit.rmm.execution.lists import is_valid

_CTLR, _IGROUPR, _ISENABLER, _ICENABLER, _ISPENDR, _ICACTIVER = 0x0, 0x80, 0x100, 0x180, 0x200, 0x380
_IPRIORITYR, _ICFGR = 0x400, 0xC00
_SGI_FRAME = 0x1_0000
_UIE = ICH_HCR.mask("UIE")
_VMCR = ICH_VMCR.make(VENG1=1, VPMR=0xF8)
SPI = 40


class Guest:
    """One VCPU: what the hypervisor does around an entry, and what the guest does in between."""

    def __init__(self, vcpus: int = 1) -> None:
        self.gic = Gicv3(range(vcpus), spis=64)
        self.lists = ListRegisters(self.gic, 0)
        self.ich = IchState(vmcr=_VMCR)
        self.interface = VirtualCpuInterface(self.ich)
        gicd, gicr = self.gic.distributor, self.gic.redistributors
        gicd.write(_CTLR, 4, 0b11)
        for n in range(3):
            gicd.write(_IGROUPR + 4 * n, 4, 0xFFFF_FFFF)
            gicd.write(_ISENABLER + 4 * n, 4, 0xFFFF_FFFF)
        for frame in range(vcpus):
            base = frame * 0x2_0000 + _SGI_FRAME
            gicr.write(base + _IGROUPR, 4, 0xFFFF_FFFF)
            gicr.write(base + _ISENABLER, 4, 0xFFFF_FFFF)
        self.loaded: list[int] = []
        self.hcr = 0
        self.lists.sync((0,) * 16, _VMCR)

    def enter(self) -> None:
        self.hcr, values = self.lists.load()
        assert is_valid(self.hcr, values), "the RMM takes whatever comes from here"
        self.ich.hcr = self.hcr | 1
        self.ich.lr[:] = values
        self.loaded = [ICH_LR.get(value, "vINTID") for value in values if value >> 62]

    def leave(self) -> None:
        self.lists.sync(tuple(self.ich.lr), self.ich.vmcr)

    def acknowledge(self) -> int:
        return self.interface.read("ICC_IAR1_EL1")

    def end(self, intid: int) -> None:
        self.interface.write("ICC_EOIR1_EL1", intid)

    def priority(self, intid: int, value: int) -> None:
        frame = self.gic.redistributors if intid < 32 else self.gic.distributor
        frame.write((_SGI_FRAME if intid < 32 else 0) + _IPRIORITYR + intid, 1, value)

    def sgi(self, intid: int) -> None:
        self.gic.set_pending(0, intid)


@pytest.fixture
def guest() -> Guest:
    return Guest()


def test_nothing_pending_nothing_loaded(guest: Guest) -> None:
    assert guest.lists.load() == (0, (0,) * 16)
    assert not guest.lists.signals()


def test_a_level_interrupt_lives_until_its_signal_falls(guest: Guest) -> None:
    guest.gic.set_spi(SPI, True)
    assert guest.lists.signals()
    for _ in range(2):
        guest.enter()
        assert guest.acknowledge() == SPI
        guest.end(SPI)
        assert guest.interface.maintenance_pending(), "the end is an exit: the Host looks at the signal"
        guest.leave()
        assert guest.lists.signals()
    guest.enter()
    guest.acknowledge()
    guest.gic.set_spi(SPI, False)
    guest.end(SPI)
    guest.leave()
    assert not guest.lists.signals()


def test_a_signal_that_falls_before_it_is_taken_is_gone(guest: Guest) -> None:
    guest.gic.set_spi(SPI, True)
    guest.enter()
    guest.leave()
    guest.gic.set_spi(SPI, False)
    guest.enter()
    assert guest.acknowledge() == SPURIOUS


def test_an_edge_is_delivered_once(guest: Guest) -> None:
    guest.sgi(3)
    guest.enter()
    guest.leave()  # not taken yet: it stays pending
    guest.enter()
    assert guest.acknowledge() == 3
    guest.end(3)
    assert not guest.interface.maintenance_pending()
    assert guest.acknowledge() == SPURIOUS
    guest.leave()
    assert not guest.lists.signals()


def test_an_edge_behind_itself_waits_in_its_list_register(guest: Guest) -> None:
    guest.sgi(3)
    guest.enter()
    assert guest.acknowledge() == 3
    guest.leave()
    guest.sgi(3)
    guest.enter()
    assert guest.ich.lr[0] >> 62 == LR_PENDING_ACTIVE
    guest.leave()  # and survives another exit
    guest.enter()
    guest.end(3)
    assert guest.acknowledge() == 3
    guest.end(3)
    assert guest.acknowledge() == SPURIOUS


def test_a_pending_bit_that_software_set_is_not_lost(guest: Guest) -> None:
    guest.gic.distributor.write(_ISPENDR + 4, 4, 1 << SPI - 32)
    guest.enter()
    guest.leave()
    guest.enter()
    assert guest.acknowledge() == SPI
    guest.end(SPI)
    guest.leave()
    assert not guest.lists.signals()


def test_more_than_fits_comes_in_order_of_priority(guest: Guest) -> None:
    for intid in range(10):
        guest.priority(intid, 0x80 - 8 * intid)
        guest.sgi(intid)
    taken: list[int] = []
    guest.enter()
    assert guest.hcr == _UIE
    assert sorted(guest.loaded) == [6, 7, 8, 9]
    while len(taken) < 10:
        intid = guest.acknowledge()
        if intid == SPURIOUS:
            guest.leave()
            guest.enter()
            continue
        taken.append(intid)
        guest.end(intid)
        if guest.interface.maintenance_pending():
            guest.leave()
            guest.enter()
    assert taken == list(range(9, -1, -1))
    assert guest.hcr == 0


def test_a_higher_priority_displaces_what_only_waits(guest: Guest) -> None:
    for intid in range(LIST_REGISTERS):
        guest.priority(intid, 0xA0)
        guest.sgi(intid)
    guest.enter()
    guest.leave()
    guest.priority(9, 0x20)
    guest.sgi(9)
    guest.enter()
    assert guest.acknowledge() == 9


def test_an_interrupt_that_is_disabled_leaves_the_list_registers(guest: Guest) -> None:
    guest.gic.set_spi(SPI, True)
    guest.enter()
    guest.gic.distributor.write(_ICENABLER + 4, 4, 1 << SPI - 32)
    guest.leave()
    guest.enter()
    assert guest.loaded == []
    guest.leave()
    guest.gic.distributor.write(_ISENABLER + 4, 4, 1 << SPI - 32)
    guest.enter()
    assert guest.loaded == [SPI]


def test_an_active_state_that_software_clears_frees_the_list_register(guest: Guest) -> None:
    guest.gic.set_spi(SPI, True)
    guest.enter()
    assert guest.acknowledge() == SPI
    guest.gic.distributor.write(_ICACTIVER + 4, 4, 1 << SPI - 32)
    guest.leave()
    guest.enter()
    assert guest.loaded == [SPI]


def test_group_and_priority_mask_decide_what_wakes(guest: Guest) -> None:
    guest.priority(SPI, 0x80)
    guest.gic.set_spi(SPI, True)
    for vmcr, wakes in (
        (_VMCR, True),
        (ICH_VMCR.make(VENG0=1, VPMR=0xF8), False),
        (ICH_VMCR.make(VENG1=1, VPMR=0x80), False),
        (ICH_VMCR.make(VENG1=1, VPMR=0x88), True),
    ):
        guest.lists.sync((0,) * 16, vmcr)
        assert guest.lists.signals() is wakes


@pytest.mark.parametrize(("ctl", "level"), [(0, False), (1, False), (3, False), (5, True), (7, False), (4, False)])
def test_timer_state_becomes_the_signal(guest: Guest, ctl: int, level: bool) -> None:
    drive_timers(guest.gic, 0, ctl, 0)
    assert guest.gic.is_pending(0, PPI_CNTV) is level
    drive_timers(guest.gic, 0, 0, ctl)
    assert guest.gic.is_pending(0, PPI_CNTP) is level
    assert not guest.gic.is_pending(0, PPI_CNTV)


ACTION = st.tuples(
    st.sampled_from(["sgi", "line", "enter", "ack", "end", "enable", "disable", "clear", "priority", "edge"]),
    st.integers(0, 7),
    st.integers(0, 255),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(ACTION, max_size=60))
def test_whatever_a_guest_does_entries_stay_valid(actions: list[tuple[str, int, int]]) -> None:
    guest = Guest()
    active: list[int] = []
    guest.enter()
    for what, n, value in actions:
        spi, bit = SPI + n, 1 << SPI + n - 32
        gicd = guest.gic.distributor
        match what:
            case "sgi":
                guest.sgi(n)
            case "line":
                guest.gic.set_spi(spi, bool(value & 1))
            case "enter":
                guest.leave()
                guest.enter()
                assert len(guest.loaded) == len(set(guest.loaded)) <= LIST_REGISTERS
            case "ack":
                intid = guest.acknowledge()
                if intid != SPURIOUS:
                    active.append(intid)
            case "end":
                guest.end(active.pop() if active else value)
            case "enable":
                gicd.write(_ISENABLER + 4, 4, bit)
            case "disable":
                gicd.write(_ICENABLER + 4, 4, bit)
            case "clear":
                gicd.write(_ICACTIVER + 4, 4, bit)
            case "priority":
                guest.priority(spi if value & 1 else n, value)
            case _:
                gicd.write(_ICFGR + spi // 16 * 4, 4, value << 8)
