import pytest

from realmkit.arch.errors import RealmkitError
from realmkit.baremetal import Limits, Outcome
from tests.baremetal.kit import (
    B_SELF,
    CODE,
    POWER_OFF,
    RESET,
    SMC,
    UDF,
    WFE,
    WFI,
    branch,
    flat,
    ldr32,
    mov64,
    movz,
    printing,
    run,
    str32,
)


def test_power_off() -> None:
    result = run(flat(POWER_OFF))
    assert result.outcome is Outcome.POWER_OFF
    assert result.outcome.good
    assert result.diagnosis is None


def test_entry_state() -> None:
    """EL2h, DAIF masked, MMU and caches off: the code prints them as bits of CurrentEL, DAIF, SPSel, SCTLR_EL2."""
    words = (
        0xD538_4240,  # mrs x0, CurrentEL
        0xD53B_4223,  # mrs x3, DAIF
        0xAA03_0000,  # orr x0, x0, x3
        0xD538_4204,  # mrs x4, SPSel
        0xAA04_0000,  # orr x0, x0, x4
        0xD53C_1005,  # mrs x5, SCTLR_EL2
        0xD280_00A6,  # mov x6, #5 (M and C)
        0x8A06_00A5,  # and x5, x5, x6
        0xAA05_A400,  # orr x0, x0, x5, lsl #41
        0xD346_FC00,  # lsr x0, x0, #6
        *mov64(1, 0x1C0B_0000),
        str32(0, 1),
        *POWER_OFF,
    )
    result = run(flat(words))
    # CurrentEL is 2 << 2, DAIF 15 << 6, SPSel 1: from bit 6 on, 15 is left.
    assert result.uarts == {2: "\x0f"}


def test_other_entry_point() -> None:
    words = (B_SELF, *printing("here"), *POWER_OFF)
    assert run(flat(words), entry=CODE + 4).uarts == {2: "here"}


def test_uarts_are_told_apart() -> None:
    words: tuple[int, ...] = ()
    for number in range(4):
        words += (*mov64(1, 0x1C09_0000 + number * 0x1_0000), movz(2, ord("a") + number), str32(2, 1))
    assert run(flat((*words, *POWER_OFF))).uarts == {0: "a", 1: "b", 2: "c", 3: "d"}


def test_text_ends_the_run_at_once() -> None:
    words = (*printing("not yet, READY, too late"), *POWER_OFF)
    result = run(flat(words), limits=Limits(until="READY"))
    assert result.outcome is Outcome.TEXT_SEEN
    assert result.outcome.good
    assert result.uarts == {2: "not yet, READY"}


def test_wfi_without_a_wake_up_source_is_idle_for_ever() -> None:
    result = run(flat((WFI, branch(-1))))
    assert result.outcome is Outcome.IDLE
    assert not result.outcome.good
    assert result.diagnosis is not None


@pytest.mark.parametrize("loop", [(B_SELF,), (WFE, branch(-1)), (WFI, WFE, branch(-2)), (0xD503_201F, branch(-1))])
def test_loops_of_nothing_are_idle_for_ever(loop: tuple[int, ...]) -> None:
    result = run(flat(loop))
    assert result.outcome is Outcome.IDLE


def test_wfi_with_a_pending_masked_interrupt_is_idle_for_ever() -> None:
    """The EL2 timer's interrupt is pending for ever: WFI is a NOP then, in a loop that nothing ends."""
    words = (
        *mov64(1, 0x2F11_0000),  # SGI and PPI frame of the redistributor
        0x1280_0002,  # mov w2, #-1
        str32(2, 1, 0x80),
        str32(2, 1, 0x100),
        *mov64(1, 0x2F00_0000),
        movz(2, 0x12),
        str32(2, 1),
        movz(2, 1),
        0xD518_CCE2,  # msr icc_igrpen1_el1, x2
        movz(3, 0xFF),
        0xD518_4603,  # msr icc_pmr_el1, x3
        0xD51C_E222,  # msr cnthp_ctl_el2, x2 (CVAL is 0)
        WFI,
        *printing("awake"),
        WFI,
        branch(-1),
    )
    result = run(flat(words))
    assert result.uarts == {2: "awake"}
    assert result.outcome is Outcome.IDLE


def test_limits() -> None:
    busy = (0x9100_0400, branch(-1))  # add x0, x0, #1
    ticks = run(flat(busy), limits=Limits(max_ticks=100_000))
    assert ticks.outcome is Outcome.MAX_TICKS
    assert ticks.ticks == 100_000
    seconds = run(flat(busy), limits=Limits(timeout_seconds=0.001))
    assert seconds.outcome is Outcome.TIMEOUT
    assert "0.001 s" in seconds.reason
    assert seconds.ticks == 100_000
    earlier = run(flat(busy), limits=Limits(max_ticks=50_000, timeout_seconds=0.001))
    assert earlier.outcome is Outcome.MAX_TICKS


def test_resets_that_change_nothing_end() -> None:
    result = run(flat(RESET))
    assert result.outcome is Outcome.RESET_LOOP
    assert set(result.resets) == {"system-reset"}


def test_an_unhandled_abort_names_the_access() -> None:
    words = (*mov64(1, 0x1C1D_0000), movz(3, 1), str32(3, 1, 0x18))
    result = run(flat(words))
    assert result.outcome is Outcome.CRASHED
    pc = CODE + 4 * (len(words) - 1)
    assert f"PC {pc:#x}" in result.reason
    assert result.missing == f"write of 4 bytes at 0x1c1d0018 from X3 by the instruction at {pc:#x}"
    assert result.diagnosis is not None
    state = result.diagnosis.pes[0]
    assert state.registers["PC"] == pc
    assert state.registers["X1"] == 0x1C1D_0000
    assert state.registers["FAR_EL2"] == 0x1C1D_0018
    assert any(line.startswith("=>") and "str w3, [x1, #0x18]" in line for line in state.code)
    assert any("DABT_SAME" in line for line in result.diagnosis.history)


def test_a_handler_that_parks_itself_ends_the_run() -> None:
    vectors = CODE + 0x800
    words = [*mov64(0, vectors), 0xD51C_C000, *mov64(1, 0x1C1D_0000), ldr32(2, 1)]
    words += [UDF] * (0x200 - len(words))
    words += [B_SELF, *[UDF] * 31] * 16
    result = run(flat(words))
    assert result.outcome is Outcome.IDLE
    assert f"PE 0 goes round in circles at {vectors + 0x200:#x}" in result.reason
    assert result.missing.startswith("read of 4 bytes at 0x1c1d0000 to X2")


@pytest.mark.parametrize(
    "words",
    [
        pytest.param((UDF,), id="undefined instruction"),
        pytest.param((*mov64(1, 0x1000), ldr32(0, 1)), id="memory of another world"),
        pytest.param((*mov64(1, 0x1000), 0xD61F_0020), id="branch to memory of another world"),
        pytest.param((*mov64(1, 0x2000_0000), 0xD61F_0020), id="branch to nothing"),
        pytest.param((*mov64(1, CODE + 2), 0xD61F_0020), id="branch to an odd address"),
        pytest.param((0xD400_0001,), id="SVC without vectors"),
        pytest.param((0xD420_0000,), id="BRK without vectors"),
        pytest.param((0xD503_001F,), id="unallocated system instruction"),
    ],
)
def test_crashes_are_reported(words: tuple[int, ...]) -> None:
    result = run(flat(words))
    assert result.outcome is Outcome.CRASHED
    assert result.diagnosis is not None
    assert result.diagnosis.pes[0].lines()


def test_vectors_without_a_stack_end_the_run() -> None:
    vectors = CODE + 0x800
    push = 0xA9BF_07E0  # stp x0, x1, [sp, #-16]!
    words = [*mov64(0, vectors), 0xD51C_C000, UDF]
    words += [UDF] * (0x200 - len(words))
    words += [0xD503_201F, push, *[UDF] * 30] * 16
    result = run(flat(words))
    assert result.outcome is Outcome.CRASHED


def test_unknown_firmware_services_are_named() -> None:
    words = (*mov64(0, 0xC400_0053), SMC, WFI, branch(-1))
    result = run(flat(words))
    assert result.outcome is Outcome.IDLE
    assert result.unknown_call == "0xc4000053 on PE 0"
    assert result.diagnosis is not None
    assert any("SMC 0xc4000053" in line for line in result.diagnosis.history)


def test_devicetree_address_in_x0() -> None:
    words = (0xB940_0002, *mov64(1, 0x1C0B_0000), str32(2, 1), *POWER_OFF)  # ldr w2, [x0]
    result = run(flat(words), dtb=b"Q\0\0\0")
    assert result.uarts == {2: "Q"}
    placed = run(flat(words), dtb=b"R\0\0\0", dtb_address=0x9000_0000)
    assert placed.uarts == {2: "R"}


def test_devicetree_must_not_overlap() -> None:
    with pytest.raises(RealmkitError, match="overlap"):
        run(flat(POWER_OFF), dtb=b"1234", dtb_address=CODE)
