from collections.abc import Sequence

import pytest

from realmkit.arch import psci, smccc
from realmkit.arch.events import Call, Event
from realmkit.arch.pas import Pas, SecurityState
from realmkit.arch.rmi import Rmi
from realmkit.arch.smccc import MASK64, SVE_HINT
from realmkit.machine import platforms
from realmkit.machine.port import El2Port, GranuleProtectionFault
from realmkit.monitor.boot import INTERFACE_VERSION, Manifest
from realmkit.monitor.monitor import RealmWorld
from tests.monitor.fakes import NS, REALM, SECURE, Board, FakeRmm

ARGUMENTS = (11, 12, 13, 14, 15, 16, 17)


@pytest.fixture
def board() -> Board:
    return Board().boot()


# ---- routing ----


@pytest.mark.parametrize("fid", [*Rmi, 0xC400_0150, 0xC400_018E, 0xC400_018F])
@pytest.mark.parametrize("hint", [0, SVE_HINT])
def test_rmi_calls_of_the_host_go_to_the_rmm_with_all_registers(board: Board, fid: int, hint: int) -> None:
    assert board.host_smc(fid | hint, *ARGUMENTS) == [0, 1, 2, 3, 4, 15, 16, 17]
    assert board.rmm.calls == [[fid | hint, *ARGUMENTS]]


def test_only_w0_is_the_function_identifier(board: Board) -> None:
    board.host_smc(0xDEAD_BEEF_0000_0000 | Rmi.VERSION, *ARGUMENTS)
    assert board.rmm.calls == [[Rmi.VERSION, *ARGUMENTS]]
    results = board.host_smc(1 << 63 | psci.VERSION)
    assert results is not None
    assert results[0] == psci.VERSION_1_1


@pytest.mark.parametrize(
    "fid",
    [
        0xC400_0190,  # RSI
        0xC400_01AF,
        smccc.GTSI_DELEGATE,
        smccc.GTSI_UNDELEGATE,
        smccc.ATTEST_GET_REALM_KEY,
        smccc.RMM_BOOT_COMPLETE,
        0xC400_014F,
        0x8400_0150,  # RMI numbers exist as SMC64 only
        0xC400_0150 | 1 << 17,
        0x8400_0061,  # FF-A
        0xC400_006F,
        0x8600_0000,
        0,
        0xFFFF_FFFF,
    ],
)
def test_other_calls_of_the_host_are_unknown_and_preserve_registers(board: Board, fid: int) -> None:
    assert board.host_smc(fid, *ARGUMENTS) == [MASK64, *ARGUMENTS]
    assert board.rmm.calls == []


@pytest.mark.parametrize(
    ("fid", "x0"),
    [
        (Rmi.VERSION, MASK64),
        (smccc.GTSI_DELEGATE, MASK64),
        (psci.SYSTEM_OFF, MASK64),
        (psci.CPU_ON, MASK64),
        (smccc.SMCCC_VERSION, smccc.VERSION_1_2),
    ],
)
def test_the_secure_world_gets_the_general_calls_only(board: Board, fid: int, x0: int) -> None:
    board.monitor.on_smc(board.ports[0], SECURE, (fid, *ARGUMENTS))
    assert board.ports[0].completed == [(SECURE, [x0, *ARGUMENTS])]
    assert board.ended is None


@pytest.mark.parametrize("fid", [Rmi.VERSION, psci.SYSTEM_OFF, 0xC400_0190, smccc.EL3_TOKEN_SIGN, 0xC400_01CE, 0])
def test_unknown_calls_of_the_rmm(board: Board, fid: int) -> None:
    assert board.rmm_smc(fid, *ARGUMENTS) == (smccc.E_RMM_UNK, ARGUMENTS)


def test_request_complete_without_a_caller_is_unknown(board: Board) -> None:
    status, _ = board.rmm_smc(smccc.RMI_REQ_COMPLETE, 0, 1, 2, 3, 4)
    assert status == smccc.E_RMM_UNK


def test_boot_complete_after_boot_is_unknown(board: Board) -> None:
    status, _ = board.rmm_smc(smccc.RMM_BOOT_COMPLETE, MASK64)
    assert status == smccc.E_RMM_UNK
    assert board.monitor.realm_world is RealmWorld.READY


def test_callers_on_different_pes_keep_their_own_registers(board: Board) -> None:
    waiting: list[El2Port] = []

    class Runs(FakeRmm):
        def on_smc(self, port: El2Port, x: Sequence[int]) -> None:
            waiting.append(port)

    board.rmm = Runs()
    assert board.host_smc(Rmi.REC_ENTER, *[1] * 7, pe=0) is None
    assert board.host_smc(Rmi.REC_ENTER, *[2] * 7, pe=3) is None
    for port in waiting:
        port.smc(smccc.RMI_REQ_COMPLETE, 9, 9, 9, 9, 9)
    assert board.ports[0].completed == [(NS, [9, 9, 9, 9, 9, 1, 1, 1])]
    assert board.ports[3].completed == [(NS, [9, 9, 9, 9, 9, 2, 2, 2])]


# ---- boot ----


def test_cold_boot_arguments_and_manifest() -> None:
    board = Board(platforms.fvp()).boot()
    shared = board.platform.rmm.base
    assert board.rmm.boots == [(0, INTERFACE_VERSION, 8, shared)]
    assert INTERFACE_VERSION == 4
    page = board.realm.read(Pas.REALM, shared, 4096)
    manifest = Manifest.unpack(page)
    assert (manifest.version, manifest.plat_data, manifest.num_banks, manifest.num_consoles) == (3, 0, 2, 1)
    words = memoryview(page).cast("Q")

    def words_of(pointer: int, count: int) -> list[int]:
        first = (pointer - shared) // 8
        return list(words[first : first + count])

    banks = words_of(manifest.banks, 4)
    assert banks == [word for span in board.platform.delegable_ranges() for word in (span.base, span.size)]
    assert (2 + manifest.banks + manifest.banks_checksum + sum(banks)) % 2**64 == 0
    console = words_of(manifest.consoles, 6)
    assert console[:2] == [0x1C0C_0000, 16]
    assert (1 + manifest.consoles + manifest.consoles_checksum + sum(console)) % 2**64 == 0


def test_the_shared_buffer_belongs_to_the_realm_world(board: Board) -> None:
    with pytest.raises(GranuleProtectionFault):
        board.ns.read(Pas.NS, board.platform.rmm.base, 8)


@pytest.mark.parametrize("code", [-1, -2, -3, -4, -5, -6, -7, -100, 1, None])
def test_a_failed_boot_disables_the_realm_world(code: int | None) -> None:
    board = Board(rmm=FakeRmm(boot_codes={0: code})).boot()
    assert board.monitor.realm_world is RealmWorld.DISABLED
    assert board.host_smc(Rmi.VERSION, *ARGUMENTS) == [MASK64, *ARGUMENTS]
    assert board.host_smc(psci.CPU_ON, 0x100, 0x8000_0000, 5) is not None
    assert len(board.rmm.boots) == 1, "later PEs do not enter an RMM that failed"


def test_without_an_rmm_there_is_no_realm_world() -> None:
    board = Board()
    assert board.host_smc(Rmi.VERSION) is not None
    board.monitor.boot(board.ports[0], None, None)
    assert board.monitor.realm_world is RealmWorld.ABSENT
    results = board.host_smc(Rmi.VERSION)
    assert results is not None
    assert results[0] == MASK64
    board.host_smc(psci.CPU_ON, 0x100, 0x8000_0000, 0)
    assert board.started == [(1, 0x8000_0000, 0)]


def test_further_pes_boot_the_rmm_warm(board: Board) -> None:
    board.host_smc(psci.CPU_ON, 0x1_0100, 0x8000_0000, 0)
    assert board.rmm.boots[1:] == [(5, 0, 0, 0)]
    assert board.monitor.realm_world is RealmWorld.READY


def test_a_failed_warm_boot_disables_the_realm_world_for_all() -> None:
    board = Board(rmm=FakeRmm(boot_codes={1: -4})).boot()
    worlds = [board.monitor.realm_world]
    board.host_smc(psci.CPU_ON, 0x100, 0x8000_0000, 0)
    worlds.append(board.monitor.realm_world)
    assert worlds == [RealmWorld.READY, RealmWorld.DISABLED]
    results = board.host_smc(Rmi.VERSION)
    assert results is not None
    assert results[0] == MASK64


def test_a_reset_boots_again_with_fresh_tables(board: Board) -> None:
    assert board.rmm_smc(smccc.GTSI_DELEGATE, 0x9000_0000)[0] == smccc.E_RMM_OK
    board.boot()
    assert board.gpc.allowed(Pas.NS, 0x9000_0000)
    assert board.monitor.realm_world is RealmWorld.READY


# ---- events ----


def calls_of(board: Board) -> list[Call]:
    calls: list[Call] = []

    def observe(event: Event) -> None:
        if isinstance(event, Call):
            calls.append(event)

    board.events.subscribe(observe)
    return calls


def test_calls_are_events_with_names() -> None:
    board = Board()
    calls = calls_of(board)
    board.boot()
    board.rmm_smc(smccc.GTSI_DELEGATE, 0x123)
    board.rmm_smc(smccc.ATTEST_GET_REALM_KEY, board.platform.rmm.base, 48, 0)
    board.rmm_smc(0xC400_01CE)
    board.host_smc(psci.CPU_ON, 0x100, 0x8000_0000, 5)
    board.host_smc(psci.SYSTEM_OFF)
    board.host_smc(0x8400_00CD)
    shown = [(c.interface, c.name, c.status, c.results) for c in calls if c.pe == 0]
    assert shown == [
        ("el3", "RMM_BOOT_COMPLETE", "E_RMM_OK", {}),
        ("el3", "GTSI_DELEGATE", "E_RMM_BAD_ADDR", {}),
        ("el3", "ATTEST_GET_REALM_KEY", "E_RMM_OK", {"size": 48}),
        ("el3", "SMC_C40001CE", "E_RMM_UNK", {}),
        ("host-psci", "CPU_ON", "0", {}),
        ("host-psci", "SYSTEM_OFF", "no return", {}),
        ("host-psci", "SMC_840000CD", "-1", {}),
    ]
    assert calls[1].arguments == {"pa": 0x123}
    assert calls[-3].arguments == {"x1": 0x100, "x2": 0x8000_0000, "x3": 5}


def test_smcs_of_the_host_never_raise(board: Board) -> None:
    values = (0, 1, MASK64, 1 << 63, 0x8000_0000)
    for fid in [*range(0x8400_0000, 0x8400_0020), *range(0xC400_0000, 0xC400_0020), 0x8000_0000, 0x8000_0001]:
        for value in values:
            board.host_smc(fid, *[value] * 7)
            board.powered.add(0)
    assert board.monitor.realm_world is RealmWorld.READY


def test_states_are_the_machine_s(board: Board) -> None:
    assert {NS, REALM, SECURE} == {SecurityState.NS, SecurityState.REALM, SecurityState.SECURE}
