"""PSCI as a Realm sees it (spec: rec-run section 11)."""

import pytest

from realmkit.arch import psci
from realmkit.arch.events import Call, Event
from realmkit.arch.psci import PsciStatus
from realmkit.arch.rmi import ExitReason, Rmi
from realmkit.arch.smccc import NOT_SUPPORTED, PSCI32_RANGE, PSCI64_RANGE, SMCCC_VERSION
from realmkit.rmm.state import RealmState
from tests.rmm.execution.running import CODE, SECOND, SHARED, UNPROTECTED, Running

MASK64 = (1 << 64) - 1
INVALID_PARAMETERS = PsciStatus.INVALID_PARAMETERS.x0
INVALID_ADDRESS = PsciStatus.INVALID_ADDRESS.x0
ALREADY_ON = PsciStatus.ALREADY_ON.x0


def running(recs: int = 3) -> Running:
    bench = Running(recs)
    bench.enter().x[:] = range(500, 531)
    return bench


@pytest.mark.parametrize(
    ("fid", "args", "x0"),
    [
        (psci.VERSION, (), 0x1_0001),
        (psci.MIGRATE_INFO_TYPE, (), NOT_SUPPORTED),
        (0x8400_0012, (), NOT_SUPPORTED),  # SYSTEM_RESET2
        (0xC400_000E, (), NOT_SUPPORTED),  # SYSTEM_SUSPEND
        (0xC400_0000, (), NOT_SUPPORTED),
        (psci.CPU_ON, (1, UNPROTECTED, 0), INVALID_ADDRESS),
        (psci.CPU_ON, (1, SHARED, 0), INVALID_ADDRESS),
        (psci.CPU_ON, (1, MASK64, 0), INVALID_ADDRESS),
        (psci.CPU_ON, (9, MASK64, 0), INVALID_ADDRESS),
        (psci.CPU_ON, (3, SECOND, 0), INVALID_PARAMETERS),
        (psci.CPU_ON, (0x10, SECOND, 0), INVALID_PARAMETERS),
        (psci.CPU_ON, (1 << 24 | 1, SECOND, 0), INVALID_PARAMETERS),
        (psci.CPU_ON, (1 << 32 | 1, SECOND, 0), INVALID_PARAMETERS),
        (psci.CPU_ON, (1 << 31 | 1, SECOND, 0), INVALID_PARAMETERS),
        (psci.CPU_ON, (MASK64, SECOND, 0), INVALID_PARAMETERS),
        (psci.CPU_ON, (0, SECOND, 0), ALREADY_ON),
        (psci.CPU_ON_32, (0, SECOND, 0), ALREADY_ON),
        (psci.AFFINITY_INFO, (0, 0), 0),
        (psci.AFFINITY_INFO_32, (0, 0), 0),
        (psci.AFFINITY_INFO, (0, 1), INVALID_PARAMETERS),
        (psci.AFFINITY_INFO, (1, MASK64), INVALID_PARAMETERS),
        (psci.AFFINITY_INFO, (3, 0), INVALID_PARAMETERS),
    ],
)
def test_answers_without_the_host(fid: int, args: tuple[int, ...], x0: int) -> None:
    bench = running()
    assert bench.smc(fid, *args) is None
    ctx = bench.context()
    assert ctx.x == [x0, 0, 0, 0, *range(504, 531)]
    assert ctx.pc == CODE + 4
    assert bench.rec_state().psci_pending is None


KNOWN = {
    psci.CPU_SUSPEND,
    psci.CPU_SUSPEND_32,
    psci.CPU_OFF,
    psci.CPU_ON,
    psci.CPU_ON_32,
    psci.AFFINITY_INFO,
    psci.AFFINITY_INFO_32,
    psci.SYSTEM_OFF,
    psci.SYSTEM_RESET,
    psci.FEATURES,
    SMCCC_VERSION,
}


def test_features() -> None:
    bench = running()
    for fid in (*PSCI32_RANGE, *PSCI64_RANGE, SMCCC_VERSION, 0x8000_0001, 0xC400_0190, 0):
        assert bench.smc(psci.FEATURES, fid) is None
        assert bench.context().x[0] == (0 if fid in KNOWN else NOT_SUPPORTED), hex(fid)


@pytest.mark.parametrize(
    ("fid", "args", "shown"),
    [
        (psci.CPU_ON, (2, SECOND, 7), (psci.CPU_ON, 2)),
        (psci.CPU_ON_32, (MASK64 << 32 & MASK64 | 2, SECOND, 7), (psci.CPU_ON_32, 2)),
        (psci.AFFINITY_INFO, (2, 0), (psci.AFFINITY_INFO, 2)),
        (psci.AFFINITY_INFO_32, (2, 1 << 32), (psci.AFFINITY_INFO_32, 2)),
        (psci.CPU_SUSPEND, (1, 2, 3), (psci.CPU_SUSPEND,)),
        (psci.CPU_SUSPEND_32, (1, 2, 3), (psci.CPU_SUSPEND_32,)),
        (psci.CPU_OFF, (1, 2, 3), (psci.CPU_OFF,)),
        (psci.SYSTEM_OFF, (1, 2, 3), (psci.SYSTEM_OFF,)),
        (psci.SYSTEM_RESET, (1, 2, 3), (psci.SYSTEM_RESET,)),
    ],
)
def test_exits(fid: int, args: tuple[int, ...], shown: tuple[int, ...]) -> None:
    bench = running()
    record = bench.smc(fid, *args)
    assert record is not None
    assert record.exit_reason == ExitReason.PSCI
    assert record.gprs == (*shown, *[0] * (31 - len(shown)))


def test_cpu_suspend_needs_no_completion() -> None:
    bench = running()
    bench.smc(psci.CPU_SUSPEND, 1, SECOND, 3)
    assert bench.call(Rmi.PSCI_COMPLETE, bench.recs[0], bench.recs[1], 0).label == "pending"
    assert bench.enter().x == [0, 0, 0, 0, *range(504, 531)]


def test_cpu_off_and_on_again() -> None:
    bench = running()
    bench.rec_state(1).runnable = True
    bench.smc(psci.CPU_OFF)
    assert bench.refused().label == "rec_runnable"
    bench.enter(rec=1)
    bench.smc(psci.CPU_ON, 0, SECOND, 5)
    bench.ok(Rmi.PSCI_COMPLETE, bench.recs[1], bench.recs[0], 0)
    ctx = bench.enter()
    assert (ctx.pc, ctx.x) == (SECOND, [5, *[0] * 30])


@pytest.mark.parametrize("fid", [psci.SYSTEM_OFF, psci.SYSTEM_RESET])
def test_system_off_is_for_all_recs(fid: int) -> None:
    bench = running()
    bench.rec_state(1).runnable = True
    bench.smc(fid)
    assert bench.rmm.realms[bench.rd].state is RealmState.SYSTEM_OFF
    for rec in (0, 1):
        result = bench.refused(rec=rec)
        assert (result.code, result.label) == ((2, 1), "system_off")


def test_events_tell_who_answers() -> None:
    bench = running()
    events: list[Event] = []
    bench.port.events.subscribe(events.append)
    bench.smc(psci.VERSION)
    bench.smc(psci.CPU_ON, 9, SECOND, 0)
    bench.smc(0x8400_001F)
    bench.smc(psci.CPU_ON, 1, SECOND, 6)
    calls = [event for event in events if isinstance(event, Call) and event.interface == "psci"]
    assert [(event.name, event.status) for event in calls] == [
        ("VERSION", "65537"),
        ("CPU_ON", "-2"),
        ("0x8400001f", "-1"),
        ("CPU_ON", "to the Host"),
    ]
    assert calls[-1].arguments == {"x1": 1, "x2": SECOND, "x3": 6}
