"""The virtual CPU interface over list registers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realmkit.arch.gic import (
    ICH_HCR,
    ICH_LR,
    ICH_MISR,
    ICH_VTR,
    LR_ACTIVE,
    LR_INVALID,
    LR_PENDING,
    LR_PENDING_ACTIVE,
    IchState,
)
from realmkit.devices.gic import VirtualCpuInterface, vtr

SPURIOUS = 1023
HW = ICH_LR.mask("HW")
EOI = ICH_LR.mask("EOI")


def lr(intid: int, priority: int = 0xA0, *, state: int = LR_PENDING, group: int = 1, extra: int = 0) -> int:
    return ICH_LR.make(vINTID=intid, Priority=priority, State=state, Group=group) | extra


def guest(*lrs: int, hcr: int = 0, mask: int = 0xF8) -> VirtualCpuInterface:
    """A guest that has opened its mask and enabled both groups."""
    interface = VirtualCpuInterface(IchState(hcr=ICH_HCR.make(En=1) | hcr))
    interface.ich.lr[: len(lrs)] = lrs
    interface.write("ICC_PMR_EL1", mask)
    interface.write("ICC_IGRPEN0_EL1", 1)
    interface.write("ICC_IGRPEN1_EL1", 1)
    return interface


def state_of(interface: VirtualCpuInterface, index: int) -> int:
    return ICH_LR.get(interface.ich.lr[index], "State")


def test_vtr_describes_the_implementation() -> None:
    assert {name: ICH_VTR.get(vtr(), name) for name in ICH_VTR.bits} == {
        "ListRegs": 3, "TDS": 1, "nV4": 1, "A3V": 1, "SEIS": 0, "IDbits": 0, "PREbits": 4, "PRIbits": 4,
    }  # fmt: skip


def test_acknowledge_and_end() -> None:
    interface = guest(lr(27))
    assert interface.virq_pending()
    assert not interface.vfiq_pending()
    assert interface.read("ICC_HPPIR1_EL1") == 27
    assert interface.read("ICC_IAR1_EL1") == 27
    assert state_of(interface, 0) == LR_ACTIVE
    assert interface.read("ICC_RPR_EL1") == 0xA0
    assert interface.ich.ap1r[0] == 1 << (0xA0 >> 3)
    assert not interface.virq_pending()
    interface.write("ICC_EOIR1_EL1", 27)
    assert state_of(interface, 0) == LR_INVALID
    assert interface.read("ICC_RPR_EL1") == 0xFF


def test_group_0_is_vfiq() -> None:
    interface = guest(lr(8, group=0))
    assert interface.vfiq_pending()
    assert not interface.virq_pending()
    assert interface.read("ICC_IAR1_EL1") == SPURIOUS
    assert interface.read("ICC_HPPIR1_EL1") == SPURIOUS
    assert interface.read("ICC_IAR0_EL1") == 8
    assert interface.read("ICC_AP0R0_EL1") == 1 << 20
    interface.write("ICC_EOIR0_EL1", 8)
    assert state_of(interface, 0) == LR_INVALID


@pytest.mark.parametrize("state", [LR_INVALID, LR_ACTIVE, LR_PENDING_ACTIVE])
def test_only_pending_is_delivered(state: int) -> None:
    interface = guest(lr(27, state=state))
    assert not interface.virq_pending()
    assert interface.read("ICC_IAR1_EL1") == SPURIOUS


def test_highest_priority_then_lowest_list_register() -> None:
    interface = guest(lr(40, 0x80), lr(41, 0x40), lr(42, 0x40))
    assert interface.read("ICC_IAR1_EL1") == 41
    interface.write("ICC_EOIR1_EL1", 41)
    assert interface.read("ICC_IAR1_EL1") == 42


def test_list_registers_beyond_the_implemented_have_no_effect() -> None:
    interface = guest()
    interface.ich.lr[4] = lr(27)
    assert not interface.virq_pending()
    assert interface.read("ICC_IAR1_EL1") == SPURIOUS


@pytest.mark.parametrize(("mask", "pending"), [(0xF8, True), (0xA8, True), (0xA0, False), (0, False)])
def test_priority_mask(mask: int, pending: bool) -> None:
    assert guest(lr(27), mask=mask).virq_pending() is pending


def test_disabled_interface_signals_nothing() -> None:
    interface = guest(lr(27))
    interface.ich.hcr = 0
    assert not interface.virq_pending()
    assert interface.read("ICC_IAR1_EL1") == SPURIOUS


@pytest.mark.parametrize(("group", "name"), [(0, "ICC_IGRPEN0_EL1"), (1, "ICC_IGRPEN1_EL1")])
def test_disabled_group_is_passed_over(group: int, name: str) -> None:
    interface = guest(lr(8, 0x10, group=group), lr(9, 0x80, group=1 - group))
    interface.write(name, 0)
    assert interface.read(f"ICC_HPPIR{1 - group}_EL1") == 9
    interface.write(f"ICC_IGRPEN{1 - group}_EL1", 0)
    assert interface.read(f"ICC_HPPIR{1 - group}_EL1") == SPURIOUS


@pytest.mark.parametrize(
    ("bpr1", "running", "pending", "preempts"),
    [(3, 0xA0, 0x98, True), (3, 0xA0, 0xA0, False), (5, 0xB8, 0xA0, False), (7, 0x78, 0x08, False), (7, 0x80, 0, True)],
)
def test_preemption_by_binary_point(bpr1: int, running: int, pending: int, preempts: bool) -> None:
    interface = guest(lr(40, running))
    interface.write("ICC_BPR1_EL1", bpr1)
    assert interface.read("ICC_IAR1_EL1") == 40
    interface.ich.lr[1] = lr(41, pending)
    assert interface.virq_pending() is preempts
    assert interface.read("ICC_IAR1_EL1") == (41 if preempts else SPURIOUS)


def test_pending_and_active_goes_back_to_pending() -> None:
    interface = guest(lr(27))
    assert interface.read("ICC_IAR1_EL1") == 27
    interface.ich.lr[0] = lr(27, state=LR_PENDING_ACTIVE)
    interface.write("ICC_EOIR1_EL1", 27)
    assert state_of(interface, 0) == LR_PENDING
    assert interface.virq_pending()


class TestEnd:
    def test_split_drop_and_deactivation(self) -> None:
        interface = guest(lr(27))
        interface.write("ICC_CTLR_EL1", 0x2)
        assert interface.read("ICC_IAR1_EL1") == 27
        interface.write("ICC_EOIR1_EL1", 27)
        assert interface.read("ICC_RPR_EL1") == 0xFF
        assert state_of(interface, 0) == LR_ACTIVE
        interface.write("ICC_DIR_EL1", 27)
        assert state_of(interface, 0) == LR_INVALID

    def test_dir_needs_eoimode(self) -> None:
        interface = guest(lr(27))
        assert interface.read("ICC_IAR1_EL1") == 27
        interface.write("ICC_DIR_EL1", 27)
        assert state_of(interface, 0) == LR_ACTIVE

    def test_wrong_group_drops_the_priority_only(self) -> None:
        interface = guest(lr(27))
        assert interface.read("ICC_IAR1_EL1") == 27
        interface.write("ICC_EOIR0_EL1", 27)
        assert interface.read("ICC_RPR_EL1") == 0xFF
        assert state_of(interface, 0) == LR_ACTIVE

    def test_wrong_order_drops_the_highest_and_deactivates_nothing(self) -> None:
        interface = guest(lr(40, 0xA0), lr(41, 0x40, state=LR_INVALID))
        assert interface.read("ICC_IAR1_EL1") == 40
        interface.ich.lr[1] = lr(41, 0x40)
        assert interface.read("ICC_IAR1_EL1") == 41
        interface.write("ICC_EOIR1_EL1", 40)
        assert interface.read("ICC_RPR_EL1") == 0xA0
        assert (state_of(interface, 0), state_of(interface, 1)) == (LR_ACTIVE, LR_ACTIVE)

    def test_same_priority_in_both_groups_drops_group_0_first(self) -> None:
        interface = guest()
        interface.ich.ap0r[0] = interface.ich.ap1r[0] = 1 << 4
        interface.write("ICC_EOIR1_EL1", 40)
        assert (interface.ich.ap0r[0], interface.ich.ap1r[0]) == (0, 1 << 4)

    @pytest.mark.parametrize(("group0", "group1", "left"), [(0xA0, 0x40, 0xA0), (0x40, 0xA0, 0xA0)])
    def test_the_higher_priority_is_dropped_whatever_its_group(self, group0: int, group1: int, left: int) -> None:
        interface = guest()
        interface.ich.ap0r[0] = 1 << (group0 >> 3)
        interface.ich.ap1r[0] = 1 << (group1 >> 3)
        interface.write("ICC_EOIR1_EL1", 40)
        assert interface.read("ICC_RPR_EL1") == left

    @pytest.mark.parametrize("intid", [1020, 1021, 1023])
    def test_special_intids_are_ignored(self, intid: int) -> None:
        interface = guest(lr(27))
        assert interface.read("ICC_IAR1_EL1") == 27
        interface.write("ICC_EOIR1_EL1", intid)
        assert interface.read("ICC_RPR_EL1") == 0xA0
        assert ICH_HCR.get(interface.ich.hcr, "EOIcount") == 0

    def test_lpi_is_deactivated_whatever_eoimode(self) -> None:
        interface = guest(lr(8200))
        interface.write("ICC_CTLR_EL1", 0x2)
        assert interface.read("ICC_IAR1_EL1") == 8200
        interface.write("ICC_EOIR1_EL1", 8200)
        assert state_of(interface, 0) == LR_INVALID

    def test_hardware_interrupt_is_deactivated_physically(self) -> None:
        interface = guest(lr(27, extra=HW | 33 << 32))
        deactivated: list[int] = []
        interface.deactivate_physical = deactivated.append
        assert interface.read("ICC_IAR1_EL1") == 27
        assert deactivated == []
        interface.write("ICC_EOIR1_EL1", 27)
        assert deactivated == [33]


class TestEoiCount:
    @pytest.mark.parametrize(
        ("eoimode", "name", "intid", "count"),
        [
            (0, "ICC_EOIR1_EL1", 50, 1),
            (0, "ICC_EOIR0_EL1", 50, 1),
            (0, "ICC_DIR_EL1", 50, 0),
            (1, "ICC_EOIR1_EL1", 50, 0),
            (1, "ICC_DIR_EL1", 50, 1),
            (0, "ICC_EOIR1_EL1", 8192, 0),
            (1, "ICC_DIR_EL1", 8192, 0),
            (1, "ICC_DIR_EL1", 1023, 0),
        ],
    )
    def test_counts_ends_without_list_register(self, eoimode: int, name: str, intid: int, count: int) -> None:
        interface = guest()
        interface.write("ICC_CTLR_EL1", eoimode << 1)
        interface.write(name, intid)
        assert ICH_HCR.get(interface.ich.hcr, "EOIcount") == count

    def test_wraps_within_its_field(self) -> None:
        interface = guest(hcr=ICH_HCR.make(EOIcount=31, UIE=1))
        interface.write("ICC_EOIR1_EL1", 50)
        assert interface.ich.hcr == ICH_HCR.make(En=1, UIE=1)


@pytest.mark.parametrize(
    ("name", "written", "read", "field"),
    [
        ("ICC_PMR_EL1", 0xFF, 0xF8, 0xF8 << 24),
        ("ICC_BPR0_EL1", 0, 2, 2 << 21),
        ("ICC_BPR0_EL1", 6, 6, 6 << 21),
        ("ICC_BPR1_EL1", 1, 3, 3 << 18),
        ("ICC_BPR1_EL1", 7, 7, 7 << 18),
        ("ICC_CTLR_EL1", 0xFFFF_FFFF, 0x8403, 1 << 9 | 1 << 4),
        ("ICC_CTLR_EL1", 0, 0x8400, 0),
        ("ICC_IGRPEN0_EL1", 1, 1, 1),
        ("ICC_IGRPEN1_EL1", 1, 1, 2),
        ("ICC_SRE_EL1", 0, 7, 0),
        ("ICC_SGI1R_EL1", 1, 0, 0),
        ("ICC_SRE_EL2", 1, 0, 0),
    ],
)
def test_registers_are_mirrored_in_vmcr(name: str, written: int, read: int, field: int) -> None:
    interface = VirtualCpuInterface(IchState())
    interface.write(name, written)
    assert interface.read(name) == read
    assert interface.ich.vmcr == field


def test_binary_points_of_an_unset_vmcr_are_the_least() -> None:
    interface = VirtualCpuInterface(IchState())
    assert (interface.read("ICC_BPR0_EL1"), interface.read("ICC_BPR1_EL1")) == (2, 3)


def test_common_binary_point() -> None:
    interface = guest()
    interface.write("ICC_BPR0_EL1", 5)
    interface.write("ICC_BPR1_EL1", 4)
    interface.write("ICC_CTLR_EL1", 1)
    assert interface.read("ICC_BPR1_EL1") == 6
    interface.write("ICC_BPR1_EL1", 7)
    interface.write("ICC_CTLR_EL1", 0)
    assert interface.read("ICC_BPR1_EL1") == 4


def test_active_priorities_are_readable_and_writable() -> None:
    interface = guest()
    interface.write("ICC_AP0R0_EL1", 0x100)
    interface.write("ICC_AP1R0_EL1", 0x10)
    assert (interface.read("ICC_AP0R0_EL1"), interface.read("ICC_AP1R0_EL1")) == (0x100, 0x10)
    assert interface.read("ICC_RPR_EL1") == 4 << 3


def test_special_intid_in_a_list_register_goes_away() -> None:
    interface = guest(lr(1022))
    assert interface.read("ICC_IAR1_EL1") == SPURIOUS
    assert state_of(interface, 0) == LR_INVALID
    assert interface.read("ICC_RPR_EL1") == 0xFF


class TestMaintenance:
    @pytest.mark.parametrize(
        ("hcr", "lrs", "expected"),
        [
            ({}, (), {}),
            ({}, (EOI,), {"EOI": 1}),
            ({}, (EOI | HW,), {}),
            ({}, (lr(27, extra=EOI),), {}),
            ({"UIE": 1}, (), {"U": 1}),
            ({"UIE": 1}, (lr(27),), {"U": 1}),
            ({"UIE": 1}, (lr(27), lr(28, state=LR_ACTIVE)), {}),
            ({"NPIE": 1}, (), {"NP": 1}),
            ({"NPIE": 1}, (lr(27),), {}),
            ({"NPIE": 1}, (lr(27, state=LR_ACTIVE), lr(28, state=LR_PENDING_ACTIVE)), {"NP": 1}),
            ({"LRENPIE": 1}, (), {}),
            ({"LRENPIE": 1, "EOIcount": 1}, (), {"LRENP": 1}),
            ({"EOIcount": 1}, (), {}),
            ({"VGrp0EIE": 1}, (), {"VGrp0E": 1}),
            ({"VGrp0DIE": 1}, (), {}),
            ({"VGrp1EIE": 1}, (), {"VGrp1E": 1}),
            ({"VGrp1DIE": 1}, (), {}),
        ],
    )
    def test_misr(self, hcr: dict[str, int], lrs: tuple[int, ...], expected: dict[str, int]) -> None:
        interface = guest(*lrs, hcr=ICH_HCR.make(**hcr))
        assert interface.misr() == ICH_MISR.make(**expected)
        assert interface.maintenance_pending() is bool(expected)

    @pytest.mark.parametrize(("group", "field"), [(0, "VGrp0D"), (1, "VGrp1D")])
    def test_disabled_group(self, group: int, field: str) -> None:
        interface = guest(hcr=ICH_HCR.make(**{f"{field}IE": 1}))
        interface.write(f"ICC_IGRPEN{group}_EL1", 0)
        assert interface.misr() == ICH_MISR.make(**{field: 1})

    def test_needs_the_interface_enabled(self) -> None:
        interface = guest(hcr=ICH_HCR.make(UIE=1))
        interface.ich.hcr &= ~ICH_HCR.mask("En")
        assert not interface.maintenance_pending()

    def test_end_with_eoi_request(self) -> None:
        interface = guest(lr(27, extra=EOI))
        assert interface.read("ICC_IAR1_EL1") == 27
        interface.write("ICC_EOIR1_EL1", 27)
        assert interface.eisr() == 0b0001
        assert interface.maintenance_pending()

    def test_elrsr(self) -> None:
        interface = guest(lr(27), EOI, HW, lr(28, state=LR_ACTIVE))
        assert interface.elrsr() == 0b0100
        assert guest().elrsr() == 0b1111


_READS = ("ICC_IAR0_EL1", "ICC_IAR1_EL1", "ICC_HPPIR0_EL1", "ICC_HPPIR1_EL1", "ICC_RPR_EL1", "ICC_BPR1_EL1")
_WRITES = (
    "ICC_EOIR0_EL1", "ICC_EOIR1_EL1", "ICC_DIR_EL1", "ICC_PMR_EL1", "ICC_BPR0_EL1", "ICC_BPR1_EL1", "ICC_CTLR_EL1",
    "ICC_IGRPEN0_EL1", "ICC_IGRPEN1_EL1", "ICC_AP0R0_EL1", "ICC_AP1R0_EL1",
)  # fmt: skip
_words = st.integers(0, (1 << 64) - 1)


@settings(max_examples=80)
@given(
    lrs=st.lists(_words, min_size=16, max_size=16),
    hcr=st.integers(0, 0xFFFF_FFFF),
    vmcr=st.integers(0, 0xFFFF_FFFF),
    steps=st.lists(st.one_of(st.sampled_from(_READS), st.tuples(st.sampled_from(_WRITES), _words)), max_size=20),
)
def test_any_state_and_any_access_stay_in_bounds(
    lrs: list[int], hcr: int, vmcr: int, steps: list[str | tuple[str, int]]
) -> None:
    ich = IchState(hcr=hcr, vmcr=vmcr, lr=lrs)
    interface = VirtualCpuInterface(ich)
    for step in steps:
        if isinstance(step, str):
            signalled = interface.virq_pending()
            value = interface.read(step)
            assert 0 <= value < 1 << 32
            if step == "ICC_IAR1_EL1" and not signalled:
                assert value == SPURIOUS
        else:
            interface.write(*step)
        assert ich.hcr & ~ICH_HCR.mask("EOIcount") == hcr & ~ICH_HCR.mask("EOIcount")
        assert ich.hcr < 1 << 32
        assert ich.vmcr < 1 << 32
        assert all(0 <= value < 1 << 64 for value in ich.lr)
        assert 0 <= interface.misr() < 1 << 8
