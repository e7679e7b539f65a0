import pytest

from realmkit.arch import psci, smccc
from realmkit.arch.psci import PsciStatus
from realmkit.arch.rmi import Rmi
from realmkit.arch.smccc import signed
from realmkit.machine import platforms
from tests.monitor.fakes import Board

ENTRY = 0x8000_1000


@pytest.fixture
def board() -> Board:
    return Board().boot()


def call(board: Board, fid: int, *args: int, pe: int = 0) -> int:
    results = board.host_smc(fid, *args, pe=pe)
    assert results is not None
    assert results[1:] == [*args, *(0,) * (7 - len(args))], "only X0 is a result"
    return signed(results[0])


def test_versions(board: Board) -> None:
    assert call(board, psci.VERSION) == 0x1_0001
    assert call(board, smccc.SMCCC_VERSION) == 0x1_0002


@pytest.mark.parametrize(
    ("fid", "expected"),
    [
        (smccc.SMCCC_VERSION, 0),
        (smccc.SMCCC_ARCH_FEATURES, 0),
        (psci.VERSION, -1),
        (0x8000_8000, -1),
        (0x8000_3FFF, -1),
    ],
)
def test_arch_features(board: Board, fid: int, expected: int) -> None:
    assert call(board, smccc.SMCCC_ARCH_FEATURES, fid) == expected


@pytest.mark.parametrize("fid", [*psci.NAMES, smccc.SMCCC_VERSION])
def test_features_of_what_is_there(board: Board, fid: int) -> None:
    assert call(board, psci.FEATURES, fid) == PsciStatus.SUCCESS


@pytest.mark.parametrize("fid", [0x8400_0005, 0x8400_0010, 0xC400_0012, smccc.SMCCC_ARCH_FEATURES, Rmi.VERSION, 0])
def test_features_of_what_is_not(board: Board, fid: int) -> None:
    assert call(board, psci.FEATURES, fid) == PsciStatus.NOT_SUPPORTED


@pytest.mark.parametrize("fid", [0x8400_0005, 0x8400_000B, 0xC400_0002, 0xC400_0008, 0xC400_0012])
def test_functions_that_are_not_there(board: Board, fid: int) -> None:
    assert call(board, fid) == PsciStatus.NOT_SUPPORTED


@pytest.mark.parametrize("fid", [psci.CPU_ON, psci.CPU_ON_32])
def test_cpu_on_starts_the_pe_with_entry_and_context(board: Board, fid: int) -> None:
    assert call(board, fid, 0x1_0300, ENTRY, 42) == PsciStatus.SUCCESS
    assert board.started == [(7, ENTRY, 42)]
    assert call(board, fid, 0x1_0300, ENTRY, 42) == PsciStatus.ALREADY_ON
    assert len(board.started) == 1


def test_a_32_bit_call_uses_the_low_halves(board: Board) -> None:
    high = 0xFFFF_FFFF_0000_0000
    assert call(board, psci.CPU_ON_32, high | 0x100, high | ENTRY, high | 7) == PsciStatus.SUCCESS
    assert board.started == [(1, ENTRY, 7)]


@pytest.mark.parametrize(
    ("target", "entry", "status"),
    [
        (0x1, ENTRY, PsciStatus.INVALID_PARAMETERS),
        (0x400, ENTRY, PsciStatus.INVALID_PARAMETERS),
        (0x8100_0100, ENTRY, PsciStatus.INVALID_PARAMETERS),
        (1 << 32 | 0x100, ENTRY, PsciStatus.INVALID_PARAMETERS),
        (0x400, 0x0, PsciStatus.INVALID_PARAMETERS),
        (0x100, 0x0, PsciStatus.INVALID_ADDRESS),
        (0x100, ENTRY + 2, PsciStatus.INVALID_ADDRESS),
        (0x100, 0x0400_0000, PsciStatus.INVALID_ADDRESS),
        (0x100, platforms.fvp().rmm.base, PsciStatus.INVALID_ADDRESS),
        (0x100, platforms.fvp().gpt.base, PsciStatus.INVALID_ADDRESS),
        (0x100, 0x1C0B_0000, PsciStatus.INVALID_ADDRESS),
        (0x100, 1 << 48 | ENTRY, PsciStatus.INVALID_ADDRESS),
        (0x0, 0x0, PsciStatus.INVALID_ADDRESS),
        (0x0, ENTRY, PsciStatus.ALREADY_ON),
    ],
)
def test_cpu_on_refusals_in_order(board: Board, target: int, entry: int, status: PsciStatus) -> None:
    assert call(board, psci.CPU_ON, target, entry, 0) == status
    assert board.started == []


def test_cpu_off_does_not_return_and_the_pe_can_be_started_again(board: Board) -> None:
    call(board, psci.CPU_ON, 0x100, ENTRY, 0)
    assert board.host_smc(psci.CPU_OFF, pe=1) is None
    assert board.powered == {0}
    assert call(board, psci.AFFINITY_INFO, 0x100, 0) == 1
    assert call(board, psci.CPU_ON, 0x100, ENTRY, 1) == PsciStatus.SUCCESS


@pytest.mark.parametrize("fid", [psci.AFFINITY_INFO, psci.AFFINITY_INFO_32])
@pytest.mark.parametrize(
    ("target", "level", "expected"),
    [(0x0, 0, 0), (0x100, 0, 1), (0x1_0300, 0, 1), (0x0, 1, -2), (0x0, 4, -2), (0x500, 0, -2), (1 << 24, 0, -2)],
)
def test_affinity_info(board: Board, fid: int, target: int, level: int, expected: int) -> None:
    assert call(board, fid, target, level) == expected


@pytest.mark.parametrize("fid", [psci.CPU_SUSPEND, psci.CPU_SUSPEND_32])
@pytest.mark.parametrize(
    ("power_state", "entry", "expected"),
    [
        (0, 0, PsciStatus.SUCCESS),
        (0x0001_0000, ENTRY, PsciStatus.SUCCESS),
        (0x0101_0002, ENTRY, PsciStatus.SUCCESS),
        (0x0001_0000, 0x4, PsciStatus.INVALID_ADDRESS),
        (0x0002_0000, ENTRY, PsciStatus.INVALID_PARAMETERS),
        (0x8000_0000, ENTRY, PsciStatus.INVALID_PARAMETERS),
    ],
)
def test_cpu_suspend(board: Board, fid: int, power_state: int, entry: int, expected: PsciStatus) -> None:
    assert call(board, fid, power_state, entry, 0) == expected


def test_no_trusted_os_to_migrate(board: Board) -> None:
    assert call(board, psci.MIGRATE_INFO_TYPE) == 2


@pytest.mark.parametrize(("fid", "end"), [(psci.SYSTEM_OFF, "PSCI SYSTEM_OFF"), (psci.SYSTEM_RESET, "reset")])
def test_the_system_ends(board: Board, fid: int, end: str) -> None:
    assert board.host_smc(fid) is None
    assert board.ended == end
