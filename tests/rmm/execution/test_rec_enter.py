"""RMI_REC_ENTER: conditions in their order, and what an entry completes (spec: rec-run sections 2, 3, 9)."""

from collections.abc import Callable

import pytest

from realmkit.arch.esr import ISS_DABT, Ec, make_esr
from realmkit.arch.events import Event, RecEntered, RecExited
from realmkit.arch.pas import Gpi, Pas
from realmkit.arch.rmi import (
    ENTER_EMUL_MMIO,
    ENTER_INJECT_SEA,
    ENTER_RIPAS_REJECT,
    ENTER_TRAP_WFE,
    ENTER_TRAP_WFI,
    ExitReason,
    Ripas,
    Rmi,
)
from realmkit.arch.rsi import Rsi
from realmkit.arch.vmsa import HCR_EL2
from realmkit.machine.port import ExceptionInfo, ExceptionKind
from realmkit.rmm.state import RealmState
from tests.rmm.execution.running import BUFFER, CODE, DESTROYED, EMPTY, NOT_SHARED, SECOND, SHARED, UNMAPPED, Running
from tests.rmm.fake import DEVICE

MASK64 = (1 << 64) - 1
VBAR = 0x8_0000
ISV = 1 << 24

# ---- conditions ----

Arrange = Callable[[Running], object]


def _off(bench: Running) -> None:
    bench.rmm.realms[bench.rd].state = RealmState.SYSTEM_OFF


def _pending(bench: Running) -> None:
    bench.enter()
    bench.smc(0xC400_0003, 1, SECOND, 0)


CONDITIONS: dict[str, tuple[Arrange, dict[str, int], tuple[int, int], str]] = {
    "NEW": (lambda b: setattr(b.rmm.realms[b.rd], "state", RealmState.NEW), {}, (2, 0), "realm_new"),
    "SYSTEM_OFF": (_off, {}, (2, 1), "system_off"),
    "not runnable": (lambda b: setattr(b.rec_state(), "runnable", False), {}, (3, 0), "rec_runnable"),
    "PSCI pending": (_pending, {}, (3, 0), "rec_psci"),
    "HCR": (lambda b: None, {"hcr": 1}, (3, 0), "rec_gicv3"),
    "emulation of nothing": (lambda b: None, {"flags": ENTER_EMUL_MMIO}, (3, 0), "rec_mmio"),
}


@pytest.mark.parametrize(("arrange", "fields", "code", "label"), CONDITIONS.values(), ids=CONDITIONS)
def test_conditions(arrange: Arrange, fields: dict[str, int], code: tuple[int, int], label: str) -> None:
    bench = Running(2)
    arrange(bench)
    bench.write_enter(fields.get("flags", 0), hcr=fields.get("hcr", 0))
    before = bench.state()
    result = bench.call(Rmi.REC_ENTER, bench.recs[0], bench.run)
    assert (result.code, result.label) == (code, label)
    assert bench.state() == before


@pytest.mark.parametrize(
    ("which", "value", "label"),
    [
        (0, 0x8000_0001, "rec_align"),
        (0, DEVICE, "rec_bound"),
        (0, "ns", "rec_gran_state"),
        (0, "rd", "rec_gran_state"),
        (0, "aux", "rec_gran_state"),
        (1, 0x8000_0001, "run_align"),
        (1, DEVICE, "run_bound"),
        (1, "rd", "run_pas"),
        (1, "secure", "run_pas"),
    ],
)
def test_addresses_come_first(which: int, value: int | str, label: str) -> None:
    """The first group of conditions wins over the second, whatever else is wrong."""
    bench = Running()
    bench.rec_state().runnable = False
    bench.write_enter(hcr=1)
    secure = bench.ns()
    bench.bus.gpt[secure] = Gpi.SECURE
    named = {"ns": bench.ns(), "rd": bench.rd, "aux": bench.rec_state().aux[0], "secure": secure}
    arguments = [bench.recs[0], bench.run]
    arguments[which] = named[value] if isinstance(value, str) else value
    before = bench.state()
    result = bench.call(Rmi.REC_ENTER, *arguments)
    assert (result.code, result.label) == ((1, 0), label)
    assert bench.state() == before


def test_the_enter_page_is_read_once() -> None:
    bench = Running()
    bench.write_enter()
    reads: list[tuple[Pas, int]] = []
    read = bench.bus.read

    def recording(pas: Pas, pa: int, size: int) -> bytes:
        reads.append((pas, pa))
        return read(pas, pa, size)

    bench.bus.read = recording  # type: ignore[method-assign]
    bench.enter()
    assert [pa for pas, pa in reads if pas is Pas.NS] == [bench.run]


# ---- emulated accesses ----


def dabt(sas: int, srt: int, *, sse: int = 0, sf: int = 1, wnr: int = 0) -> int:
    return ISS_DABT.make(ISV=1, SAS=sas, SRT=srt, SSE=sse, SF=sf, WnR=wnr, DFSC=7)


READS = [
    (dabt(0, 3), 0x1234_5678_9ABC_DEF0, 0xF0),
    (dabt(1, 3), 0x1234_5678_9ABC_DEF0, 0xDEF0),
    (dabt(2, 3), 0x1234_5678_9ABC_DEF0, 0x9ABC_DEF0),
    (dabt(3, 3), 0x1234_5678_9ABC_DEF0, 0x1234_5678_9ABC_DEF0),
    (dabt(0, 3, sse=1), 0x180, MASK64 - 0x7F),
    (dabt(0, 3, sse=1), 0x7F, 0x7F),
    (dabt(0, 3, sse=1, sf=0), 0x80, 0xFFFF_FF80),
    (dabt(1, 3, sse=1), 0x8000, MASK64 - 0x7FFF),
    (dabt(1, 3, sse=1, sf=0), 0x8000, 0xFFFF_8000),
    (dabt(2, 3, sse=1), 0x8000_0000, MASK64 - 0x7FFF_FFFF),
    (dabt(2, 3, sf=0), MASK64, 0xFFFF_FFFF),
]


@pytest.mark.parametrize(("iss", "given", "loaded"), READS)
def test_emulated_read(iss: int, given: int, loaded: int) -> None:
    bench = Running()
    ctx = bench.enter()
    ctx.x[3] = 0x5555
    assert bench.abort(NOT_SHARED, iss) is not None
    bench.enter(ENTER_EMUL_MMIO, [given, 7, 7, 7])
    assert ctx.x[3] == loaded
    assert ctx.x[:3] == [0, 0, 0]
    assert ctx.pc == CODE + 4


@pytest.mark.parametrize("iss", [dabt(3, 31), dabt(3, 3, wnr=1)])
def test_emulated_access_without_a_register_to_load(iss: int) -> None:
    bench = Running()
    ctx = bench.enter()
    bench.abort(NOT_SHARED, iss)
    bench.enter(ENTER_EMUL_MMIO, [99])
    assert ctx.x == [0] * 31
    assert ctx.pc == CODE + 4


def test_without_emulation_the_instruction_is_made_again() -> None:
    bench = Running()
    ctx = bench.enter()
    bench.abort(NOT_SHARED, dabt(3, 3))
    bench.enter(0, [99])
    assert (ctx.pc, ctx.x[3]) == (CODE, 0)


@pytest.mark.parametrize(
    ("ipa", "iss"),
    [(NOT_SHARED, 7), (UNMAPPED, dabt(3, 3)), (DESTROYED, dabt(3, 3))],
    ids=["no syndrome", "Protected", "DESTROYED"],
)
def test_only_emulatable_aborts_are_emulated(ipa: int, iss: int) -> None:
    """attacks 4."""
    bench = Running()
    bench.enter()
    assert bench.abort(ipa, iss) is not None
    assert bench.refused(ENTER_EMUL_MMIO).label == "rec_mmio"
    bench.enter()


def test_an_abort_is_emulated_at_the_next_entry_only() -> None:
    bench = Running()
    bench.enter()
    bench.abort(NOT_SHARED, dabt(3, 3))
    bench.enter()
    bench.interrupt()
    assert bench.refused(ENTER_EMUL_MMIO).label == "rec_mmio"


# ---- injected external aborts ----


def vectors(bench: Running) -> None:
    bench.context().write("VBAR_EL1", VBAR)


@pytest.mark.parametrize("flags", [ENTER_INJECT_SEA, ENTER_INJECT_SEA | ENTER_EMUL_MMIO])
@pytest.mark.parametrize("iss", [dabt(3, 3), 7], ids=["emulatable", "not emulatable"])
def test_inject_sea(flags: int, iss: int) -> None:
    """attacks 8: with both flags the external abort is injected and nothing is emulated."""
    bench = Running()
    vectors(bench)
    ctx = bench.enter()
    bench.abort(NOT_SHARED, iss, va=0xFFFF_0000_0000_2010)
    bench.enter(flags, [99])
    assert ctx.pc == VBAR + 0x200
    assert ctx.read("ELR_EL1") == CODE
    assert ctx.read("FAR_EL1") == 0xFFFF_0000_0000_2010
    assert ctx.read("ESR_EL1") == make_esr(Ec.DABT_SAME, iss & ~0x3F | 0x10 | 1 << 9)
    assert ctx.x[3] == 0


@pytest.mark.parametrize("ipa", [UNMAPPED, DESTROYED, None], ids=["RAM", "DESTROYED", "no abort"])
@pytest.mark.parametrize("flags", [ENTER_INJECT_SEA, ENTER_INJECT_SEA | ENTER_EMUL_MMIO])
def test_inject_sea_has_no_effect_without_an_unprotected_abort(ipa: int | None, flags: int) -> None:
    bench = Running()
    vectors(bench)
    ctx = bench.enter()
    if ipa is None:
        bench.interrupt()
    else:
        bench.abort(ipa, dabt(3, 3))
    bench.enter(flags)
    assert (ctx.pc, ctx.read("ESR_EL1")) == (CODE, 0)


# ---- RIPAS, host calls ----


@pytest.mark.parametrize(
    ("value", "progress", "flags", "response"),
    [
        (Ripas.RAM, 0, 0, 0),
        (Ripas.RAM, 0, ENTER_RIPAS_REJECT, 1),
        (Ripas.RAM, 0x1000, ENTER_RIPAS_REJECT, 1),
        (Ripas.RAM, 0x2000, ENTER_RIPAS_REJECT, 0),
        (Ripas.EMPTY, 0, ENTER_RIPAS_REJECT, 0),
        (Ripas.EMPTY, 0x2000, 0, 0),
    ],
)
def test_ripas_change(value: Ripas, progress: int, flags: int, response: int) -> None:
    bench = Running()
    ctx = bench.enter()
    ctx.x[4:] = range(4, 31)
    base = EMPTY
    record = bench.smc(Rsi.IPA_STATE_SET, base, base + 0x2000, value, 0)
    assert record is not None
    fields = (record.exit_reason, record.ripas_base, record.ripas_top, record.ripas_value)
    assert fields == (ExitReason.RIPAS_CHANGE, base, base + 0x2000, value)
    if progress:
        assert bench.ok(Rmi.RTT_SET_RIPAS, bench.rd, bench.recs[0], base, base + progress)[0] == base + progress
    bench.enter(flags)
    assert ctx.x == [0, base + progress, response, 0, 0, *range(5, 31)]
    assert ctx.pc == CODE + 4
    assert [bench.ripas(base), bench.ripas(base + 0x1000)] == [
        value if progress else Ripas.EMPTY,
        value if progress > 0x1000 else Ripas.EMPTY,
    ]
    bench.interrupt()
    assert bench.call(Rmi.RTT_SET_RIPAS, bench.rd, bench.recs[0], base, base + 0x1000).label == "base_bound"


def host_call(bench: Running, ipa: int = BUFFER) -> None:
    bench.poke(BUFFER, (0x1234).to_bytes(8, "little") + b"".join((100 + n).to_bytes(8, "little") for n in range(31)))
    bench.enter()
    record = bench.smc(Rsi.HOST_CALL, ipa)
    assert record is not None
    assert (record.exit_reason, record.imm, record.gprs) == (5, 0x1234, tuple(range(100, 131)))


def test_host_call() -> None:
    """attacks 39."""
    bench = Running()
    host_call(bench)
    ctx = bench.enter(0, list(range(200, 231)))
    written = bench.peek(BUFFER, 256)
    assert written[:8] == (0x1234).to_bytes(8, "little")
    assert [int.from_bytes(written[n : n + 8], "little") for n in range(8, 256, 8)] == list(range(200, 231))
    assert ctx.x[:4] == [0, 0, 0, 0]
    bench.poke(BUFFER, bytes(256))
    bench.interrupt()
    bench.enter(0, list(range(31)))
    assert not any(bench.peek(BUFFER, 256)), "it is completed once"


def test_host_call_waits_for_its_page() -> None:
    """The Host destroys the page while the call is pending: nothing runs, and the call is still pending."""
    bench = Running()
    host_call(bench)
    bench.ok(Rmi.DATA_DESTROY, bench.rd, BUFFER)
    bench.write_enter(0, [1])
    result = bench.call(Rmi.REC_ENTER, bench.recs[0], bench.run)
    record = bench.exit_record()
    assert result.x0 == 0
    assert (record.exit_reason, record.esr, record.hpfar, record.far) == (0, 0x24 << 26 | 0x7, BUFFER >> 8, 0)
    assert bench.rec_state().host_call_ipa == BUFFER
    assert not bench.rec_state().running


def test_host_call_whose_page_became_empty_completes_without_a_copy() -> None:
    bench = Running(2)
    host_call(bench)
    rec = bench.rec_state()
    data = bench.pa(BUFFER)
    found = bench.bus.read(Pas.REALM, data, 256)
    bench.change_ripas(BUFFER, Ripas.EMPTY)
    ctx = bench.enter(0, [1])
    assert (ctx.x[0], rec.host_call_ipa) == (0, None)
    assert bench.bus.read(Pas.REALM, data, 256) == found


# ---- what an entry programs ----


@pytest.mark.parametrize(
    ("flags", "wfi", "wfe"),
    [(0, 0, 0), (ENTER_TRAP_WFI, 1, 0), (ENTER_TRAP_WFE, 0, 1), (ENTER_TRAP_WFI | ENTER_TRAP_WFE, 1, 1)],
)
def test_traps_of_an_entry(flags: int, wfi: int, wfe: int) -> None:
    bench = Running()
    bench.enter(ENTER_TRAP_WFI | ENTER_TRAP_WFE)
    bench.interrupt()
    hcr = bench.enter(flags).read("HCR_EL2")
    assert (HCR_EL2.get(hcr, "TWI"), HCR_EL2.get(hcr, "TWE")) == (wfi, wfe)


def test_unlisted_flags_are_ignored() -> None:
    bench = Running()
    bench.enter(MASK64 & ~0x1F)


def test_enter_gprs_are_not_an_input_of_their_own() -> None:
    bench = Running()
    assert bench.enter(0, [5] * 31).x == [0] * 31


@pytest.mark.parametrize(
    ("timer", "mask"), [("CNTV", 1 << 18), ("CNTP", 1 << 19)], ids=["virtual timer", "physical timer"]
)
@pytest.mark.parametrize(
    ("ctl", "cval", "reported", "masked"),
    [(0, 0, 0, False), (1, 10_000, 1, False), (1, 0, 5, True), (3, 0, 7, False), (2, 0, 2, False)],
)
def test_a_timer_that_the_host_knows_of_is_masked(
    timer: str, mask: int, ctl: int, cval: int, reported: int, masked: bool
) -> None:
    """attacks 1: each timer is reported in its own fields."""
    bench = Running()
    bench.port.tick = 5000
    ctx = bench.enter()
    ctx.write(f"{timer}_CTL_EL0", ctl)
    ctx.write(f"{timer}_CVAL_EL0", cval)
    record = bench.interrupt()
    name = timer.lower()
    other = "cntp" if name == "cntv" else "cntv"
    assert (getattr(record, f"{name}_ctl"), getattr(record, f"{name}_cval")) == (reported, cval)
    assert (getattr(record, f"{other}_ctl"), getattr(record, f"{other}_cval")) == (0, 0)
    assert bench.enter().read("CNTHCTL_EL2") == 0xC00 | (mask if masked else 0)


def test_a_reported_timer_that_goes_idle_is_an_exit() -> None:
    """Its line is masked, so only the RMM can tell the Host; one that stays asserted is no news."""
    bench = Running()
    bench.port.tick = 5000
    ctx = bench.enter()
    ctx.write("CNTV_CTL_EL0", 1)
    bench.interrupt()
    bench.enter()
    assert bench.smc(Rsi.VERSION, 0x1_0000) is None
    ctx.write("CNTV_CVAL_EL0", 1 << 40)
    record = bench.smc(Rsi.VERSION, 0x1_0000)
    assert record is not None
    assert (record.exit_reason, record.cntv_ctl) == (ExitReason.IRQ, 1)
    assert bench.enter().read("CNTHCTL_EL2") == 0xC00
    assert ctx.x[:3] == [0, 0x1_0000, 0x1_0000], "the call had been served"
    assert bench.smc(Rsi.VERSION, 0x1_0000) is None


def test_a_timer_that_fires_while_the_rmm_works_is_an_exit() -> None:
    """Whether or not the Host's interrupt controller would tell."""
    bench = Running()
    ctx = bench.enter()
    ctx.write("CNTP_CTL_EL0", 1)
    ctx.write("CNTP_CVAL_EL0", 1 << 20)
    assert bench.smc(Rsi.VERSION, 0x1_0000) is None
    bench.port.tick = 1 << 20
    record = bench.smc(Rsi.VERSION, 0x1_0000)
    assert record is not None
    assert (record.exit_reason, record.esr, record.cntp_ctl) == (ExitReason.IRQ, 0, 5)
    assert bench.enter().read("CNTHCTL_EL2") == 0xC00 | 1 << 19


def test_a_timer_that_fired_between_exit_and_entry_is_an_exit_at_once() -> None:
    bench = Running()
    ctx = bench.enter()
    ctx.write("CNTV_CTL_EL0", 1)
    ctx.write("CNTV_CVAL_EL0", 1 << 20)
    assert bench.interrupt().cntv_ctl == 1
    bench.port.tick = 1 << 20
    assert bench.refused().x0 == 0
    record = bench.exit_record()
    assert (record.exit_reason, record.esr, record.cntv_ctl) == (ExitReason.IRQ, 0, 5)
    assert not bench.rec_state().running
    bench.enter()


def test_a_virtual_serror_stays_pending_over_an_entry() -> None:
    bench = Running()
    bench.enter()
    bench.take(make_esr(Ec.SERROR, 0x11 | 3 << 10), kind=ExceptionKind.SERROR)
    assert HCR_EL2.get(bench.enter(ENTER_TRAP_WFI).read("HCR_EL2"), "VSE") == 1


# ---- the end of a run ----


def test_a_run_page_that_is_taken_away_meanwhile() -> None:
    """The record cannot be written: RMI_ERROR_INPUT, although the REC has run."""
    bench = Running()
    ctx = bench.enter()
    bench.ok(Rmi.GRANULE_DELEGATE, bench.run)
    ctx.x[7] = 7
    bench.rmm.on_exception(bench.port, ctx, irq())
    assert (bench.port.results[-1], bench.port.refusal) == ((1, 0, 0, 0, 0), "run_pas")
    assert not any(bench.bus.read(Pas.REALM, bench.run, 4096))
    bench.run = bench.ns()
    assert bench.enter().x[7] == 7


def irq() -> ExceptionInfo:
    return ExceptionInfo(ExceptionKind.IRQ)


def test_a_rec_may_move_to_another_pe() -> None:
    bench = Running()
    ctx = bench.enter()
    bench.interrupt()
    bench.port.index = 1
    assert bench.enter() is ctx
    assert list(bench.rmm.running) == [1]


def test_events() -> None:
    bench = Running()
    events: list[Event] = []
    bench.port.events.subscribe(events.append)
    bench.enter()
    bench.abort(SHARED, dabt(3, 3, wnr=1))
    entered = [event for event in events if isinstance(event, RecEntered)]
    exited = [event for event in events if isinstance(event, RecExited)]
    assert [event.rec for event in entered] == bench.recs
    assert [(event.rec, event.reason, event.exit["hpfar"]) for event in exited] == [
        (bench.recs[0], "SYNC", SHARED >> 8)
    ]
