"""REC_CREATE, REC_DESTROY, PSCI_COMPLETE: conditions in their order, effects, registers (spec: rmi 6.8, 6.9, 6.11)."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from realmkit.arch import psci
from realmkit.arch.pas import Pas
from realmkit.arch.psci import PsciStatus
from realmkit.arch.rmi import RecParams, Rmi
from realmkit.arch.vmsa import HCR_EL2, VTCR_EL2
from realmkit.rmm.features import MAX_RECS
from realmkit.rmm.measurement import content_digest
from realmkit.rmm.state import GranuleState
from tests.rmm.execution.running import CODE, SECOND, Running
from tests.rmm.fake import DEVICE, HIGH_BASE, HIGH_SIZE

INPUT, REALM, REC = (1, 0), (2, 0), (3, 0)
Change = Callable[[Running, RecParams], RecParams]


def new(recs: int = 0) -> Running:
    return Running(recs, activate=False)


# ---- REC_CREATE ----


def test_rec_create_makes_a_rec() -> None:
    bench = new()
    params = bench.rec_params(0, gprs=tuple(range(11, 19)))
    rec = bench.delegated()
    bench.ok(Rmi.REC_CREATE, bench.rd, rec, bench.ns(params.pack()))
    granules = bench.rmm.granules
    assert granules.state(rec) is GranuleState.REC
    assert [granules.state(pa) for pa in params.aux[:2]] == [GranuleState.REC_AUX] * 2
    realm = bench.rmm.realms[bench.rd]
    assert (realm.rec_index, realm.num_recs) == (1, 1)
    ctx = bench.rmm.recs[rec].ctx
    assert ctx.x == [*range(11, 19), *[0] * 23]
    assert (ctx.pc, ctx.pstate) == (CODE, 0x3C5)
    assert ctx.read("SCTLR_EL1") == 0xC5_0878
    assert ctx.read("PMCR_EL0") == 0x60
    assert ctx.read("MDSCR_EL1") == 0x1000
    assert ctx.read("VPIDR_EL2") == bench.port.id_registers["MIDR_EL1"]
    assert ctx.read("VTTBR_EL2") == realm.rtt_base | 1 << 48
    vtcr = ctx.read("VTCR_EL2")
    assert {name: VTCR_EL2.get(vtcr, name) for name in ("T0SZ", "SL0", "TG0", "PS", "VS")} == {
        "T0SZ": 64 - 39,
        "SL0": 1,
        "TG0": 0,
        "PS": 5,
        "VS": 0,
    }
    hcr = ctx.read("HCR_EL2")
    for name in ("VM", "FMO", "IMO", "AMO", "TID3", "TSC", "RW", "TEA", "FWB", "FB"):
        assert HCR_EL2.get(hcr, name), name
    for name in ("TWI", "TWE", "TGE", "VSE"):
        assert not HCR_EL2.get(hcr, name), name


def test_vtcr_follows_the_width_of_vmids() -> None:
    bench = new()
    bench.port.id_registers["ID_AA64MMFR1_EL1"] = 2 << 4
    rec = bench.create_rec(0)
    assert VTCR_EL2.get(bench.rmm.recs[rec].ctx.read("VTCR_EL2"), "VS") == 1


@pytest.mark.parametrize(
    ("index", "vmpidr"),
    [(0, 1 << 31), (1, 1 << 31 | 1), (16, 1 << 31 | 0x100), (4096, 1 << 31 | 0x1_0000), (1 << 20, 1 << 31 | 1 << 32)],
)
def test_vmpidr(index: int, vmpidr: int) -> None:
    """attacks 37."""
    bench = new()
    bench.rmm.realms[bench.rd].rec_index = index
    rec = bench.create_rec(index)
    assert bench.rmm.recs[rec].ctx.read("VMPIDR_EL2") == vmpidr


def test_only_a_runnable_rec_is_measured() -> None:
    bench = new()
    realm = bench.rmm.realms[bench.rd]
    before = realm.measurements[0]
    params = bench.rec_params(0, flags=0)
    bench.ok(Rmi.REC_CREATE, bench.rd, bench.delegated(), bench.ns(params.pack()))
    assert realm.measurements[0] == before
    params = bench.rec_params(1, flags=1, gprs=(5,) * 8)
    image = RecParams(flags=1, pc=CODE, gprs=(5,) * 8).pack()
    bench.ok(Rmi.REC_CREATE, bench.rd, bench.delegated(), bench.ns(params.pack()))
    descriptor = bytearray(0x100)
    descriptor[0], descriptor[8:10], descriptor[0x10:0x50] = 1, b"\x00\x01", before
    descriptor[0x50:0x70] = content_digest(realm, image)
    assert realm.measurements[0][:32] == content_digest(realm, bytes(descriptor))


def _aux(*which: int) -> Change:
    return lambda bench, params: replace(params, aux=(*which, *params.aux[len(which) :]))


CREATE_PARAMS: dict[str, tuple[Change, tuple[int, int], str]] = {
    "17 aux": (lambda b, p: replace(p, num_aux=17), INPUT, "num_aux_bound"),
    "2^64 - 1 aux": (lambda b, p: replace(p, num_aux=(1 << 64) - 1), INPUT, "num_aux_bound"),
    "too few aux": (lambda b, p: replace(p, num_aux=1), INPUT, "num_aux"),
    "no aux": (lambda b, p: replace(p, num_aux=0), INPUT, "num_aux"),
    "too many aux": (
        lambda b, p: replace(p, num_aux=3, aux=(*p.aux[:2], b.delegated(), *p.aux[3:])),
        INPUT,
        "num_aux",
    ),
    "unaligned aux": (_aux(0x8000_0008), INPUT, "aux_align"),
    "device as aux": (_aux(DEVICE), INPUT, "aux_bound"),
    "aux beyond memory": (_aux(1 << 60), INPUT, "aux_bound"),
    "undelegated aux": (lambda b, p: replace(p, aux=(b.ns(), *p.aux[1:])), INPUT, "aux_state"),
    "RD as aux": (lambda b, p: replace(p, aux=(b.rd, *p.aux[1:])), INPUT, "aux_state"),
    "the same aux twice": (lambda b, p: replace(p, aux=(p.aux[0], p.aux[0], *p.aux[2:])), INPUT, "aux_alias"),
    "skipped index": (lambda b, p: replace(p, mpidr=1), INPUT, "mpidr_index"),
    "SBZ bits of MPIDR": (lambda b, p: replace(p, mpidr=1 << 4), INPUT, "mpidr_index"),
    "high SBZ bits of MPIDR": (lambda b, p: replace(p, mpidr=1 << 32), INPUT, "mpidr_index"),
}


@pytest.mark.parametrize(("change", "code", "label"), CREATE_PARAMS.values(), ids=CREATE_PARAMS)
def test_rec_create_refuses_parameters(change: Change, code: tuple[int, int], label: str) -> None:
    bench = new()
    params = change(bench, bench.rec_params(0))
    rec, page = bench.delegated(), bench.ns(params.pack())
    before = bench.state()
    result = bench.call(Rmi.REC_CREATE, bench.rd, rec, page)
    assert (result.code, result.label, result.outputs) == (code, label, (0, 0, 0, 0))
    assert bench.state() == before


def test_rec_create_refuses_its_own_granule_as_aux() -> None:
    """attacks 13."""
    bench = new()
    rec = bench.delegated()
    params = bench.rec_params(0)
    params.aux = (params.aux[0], rec, *params.aux[2:])
    result = bench.call(Rmi.REC_CREATE, bench.rd, rec, bench.ns(params.pack()))
    assert (result.code, result.label) == (INPUT, "aux_alias")
    assert bench.rmm.granules.state(params.aux[0]) is GranuleState.DELEGATED


@pytest.mark.parametrize(
    ("which", "value", "label"),
    [
        (0, 0x8000_0001, "rd_align"),
        (0, DEVICE, "rd_bound"),
        (0, "ns", "rd_state"),
        (0, "delegated", "rd_state"),
        (1, 0x8000_0001, "rec_align"),
        (1, DEVICE, "rec_bound"),
        (1, "ns", "rec_state"),
        (1, "rd", "rec_state"),
        (2, 0x8000_0001, "params_align"),
        (2, DEVICE, "params_bound"),
        (2, "delegated", "params_pas"),
        (2, HIGH_BASE + HIGH_SIZE, "params_bound"),
    ],
)
def test_rec_create_refuses_addresses(which: int, value: int | str, label: str) -> None:
    bench = new()
    arguments = [bench.rd, bench.delegated(), bench.ns(bench.rec_params(0).pack())]
    named = {"ns": bench.ns(), "delegated": bench.delegated(), "rd": bench.rd}
    arguments[which] = named[value] if isinstance(value, str) else value
    before = bench.state()
    result = bench.call(Rmi.REC_CREATE, *arguments)
    assert (result.code, result.label) == (INPUT, label)
    assert bench.state() == before


def test_rec_create_wants_a_new_realm() -> None:
    bench = Running()
    before = bench.rmm.realms[bench.rd].num_recs
    result = bench.call(Rmi.REC_CREATE, bench.rd, bench.delegated(), bench.ns(bench.rec_params(1).pack()))
    assert (result.code, result.label) == (REALM, "realm_state")
    assert bench.rmm.realms[bench.rd].num_recs == before


def test_rec_create_has_a_limit_that_comes_before_the_index() -> None:
    bench = new()
    bench.rmm.realms[bench.rd].num_recs = MAX_RECS
    result = bench.call(Rmi.REC_CREATE, bench.rd, bench.delegated(), bench.ns(bench.rec_params(9).pack()))
    assert (result.code, result.label) == (REALM, "num_recs")


# ---- REC_DESTROY ----


def test_rec_destroy_gives_everything_back_wiped() -> None:
    """attacks 44."""
    bench = Running()
    rec = bench.rec_state()
    granules = (rec.pa, *rec.aux)
    for pa in granules:
        bench.bus.write(Pas.REALM, pa, b"secret")
    bench.ok(Rmi.REC_DESTROY, rec.pa)
    realm = bench.rmm.realms[bench.rd]
    assert (realm.num_recs, realm.rec_index) == (0, 1)
    assert bench.port.released == [rec.ctx]
    for pa in granules:
        assert bench.rmm.granules.state(pa) is GranuleState.DELEGATED
        assert not any(bench.bus.read(Pas.REALM, pa, 4096))


def test_a_destroyed_index_cannot_be_created_again() -> None:
    bench = new(1)
    bench.ok(Rmi.REC_DESTROY, bench.recs[0])
    result = bench.call(Rmi.REC_CREATE, bench.rd, bench.delegated(), bench.ns(bench.rec_params(0).pack()))
    assert result.label == "mpidr_index"


def test_a_running_rec_is_left_alone() -> None:
    bench = Running(2)
    bench.enter()
    for fid, arguments in (
        (Rmi.REC_DESTROY, (bench.recs[0],)),
        (Rmi.REC_ENTER, (bench.recs[0], bench.run)),
        (Rmi.RTT_SET_RIPAS, (bench.rd, bench.recs[0], 0, 0x1000)),
    ):
        result = bench.call(fid, *arguments)
        assert (result.code, result.label) == (REC, "rec_state"), fid
    bench.interrupt()
    bench.ok(Rmi.REC_DESTROY, bench.recs[0])


@pytest.mark.parametrize(
    ("value", "label"),
    [(0x8000_0001, "rec_align"), (DEVICE, "rec_bound"), ("ns", "rec_gran_state"), ("rd", "rec_gran_state")],
)
def test_rec_destroy_refuses_addresses(value: int | str, label: str) -> None:
    bench = Running()
    named = {"ns": bench.ns(), "rd": bench.rd}
    result = bench.call(Rmi.REC_DESTROY, named[value] if isinstance(value, str) else value)
    assert (result.code, result.label) == (INPUT, label)


# ---- PSCI_COMPLETE ----


def pending(fid: int = psci.CPU_ON, *arguments: int, target_runnable: bool = False) -> Running:
    bench = Running(3)
    bench.rec_state(1).runnable = target_runnable
    bench.enter()
    record = bench.smc(fid, *(arguments or ((1, SECOND, 77) if fid == psci.CPU_ON else (1, 0, 0))))
    assert record is not None
    assert record.exit_reason == 3
    return bench


@pytest.mark.parametrize(
    ("fid", "status", "runnable", "x0", "started"),
    [
        (psci.CPU_ON, PsciStatus.SUCCESS, False, PsciStatus.SUCCESS, True),
        (psci.CPU_ON, PsciStatus.SUCCESS, True, PsciStatus.ALREADY_ON, False),
        (psci.CPU_ON, PsciStatus.DENIED, False, PsciStatus.DENIED, False),
        (psci.AFFINITY_INFO, PsciStatus.SUCCESS, True, PsciStatus.SUCCESS, False),
        (psci.AFFINITY_INFO, PsciStatus.SUCCESS, False, PsciStatus.OFF, False),
    ],
)
def test_psci_complete(fid: int, status: PsciStatus, runnable: bool, x0: PsciStatus, started: bool) -> None:
    bench = pending(fid, target_runnable=runnable)
    target = bench.context(1)
    target.x[:] = [9] * 31
    target.pstate = 0
    bench.context(0).write("SCTLR_EL1", 0xC5_0878 | 1 << 25 | 1)
    assert bench.refused().label == "rec_psci"
    bench.ok(Rmi.PSCI_COMPLETE, bench.recs[0], bench.recs[1], status.x0)
    assert bench.enter().x[:4] == [x0.x0, 0, 0, 0]
    assert bench.rec_state(1).runnable is (runnable or started)
    if started:
        assert target.x == [77, *[0] * 30]
        assert (target.pc, target.pstate) == (SECOND, 0x3C5)
        assert target.read("SCTLR_EL1") == 0xC5_0878 | 1 << 25
    else:
        assert target.x == [9] * 31


COMPLETE: dict[str, tuple[Callable[[Running], tuple[int, int, int]], str]] = {
    "the same REC": (lambda b: (b.recs[0], b.recs[0], 0), "alias"),
    "unaligned caller": (lambda b: (b.recs[0] + 8, b.recs[1], 0), "calling_align"),
    "unaligned target": (lambda b: (b.recs[0], b.recs[1] + 8, 0), "target_align"),
    "device as caller": (lambda b: (DEVICE, b.recs[1], 0), "calling_bound"),
    "device as target": (lambda b: (b.recs[0], DEVICE, 0), "target_bound"),
    "RD as caller": (lambda b: (b.rd, b.recs[1], 0), "calling_gran_state"),
    "RD as target": (lambda b: (b.recs[0], b.rd, 0), "target_gran_state"),
    "nothing pending": (lambda b: (b.recs[1], b.recs[0], 0), "pending"),
    "another target": (lambda b: (b.recs[0], b.recs[2], 0), "target"),
    "status OFF": (lambda b: (b.recs[0], b.recs[1], 1), "status"),
    "status ALREADY_ON": (lambda b: (b.recs[0], b.recs[1], PsciStatus.ALREADY_ON.x0), "status"),
    "status of 32 bits": (lambda b: (b.recs[0], b.recs[1], 0xFFFF_FFFD), "status"),
    "any bits": (lambda b: (b.recs[0], b.recs[1], 1 << 63), "status"),
}


@pytest.mark.parametrize(("arguments", "label"), COMPLETE.values(), ids=COMPLETE)
def test_psci_complete_refuses(arguments: Callable[[Running], tuple[int, int, int]], label: str) -> None:
    """attacks 33."""
    bench = pending()
    before = bench.state()
    result = bench.call(Rmi.PSCI_COMPLETE, *arguments(bench))
    assert (result.code, result.label) == (INPUT, label)
    assert bench.state() == before


def test_psci_complete_denied_needs_a_target_that_is_off() -> None:
    bench = pending(target_runnable=True)
    before = bench.state()
    assert bench.call(Rmi.PSCI_COMPLETE, bench.recs[0], bench.recs[1], PsciStatus.DENIED.x0).label == "status"
    assert bench.state() == before


def test_psci_complete_denied_is_not_for_affinity_info() -> None:
    bench = pending(psci.AFFINITY_INFO)
    assert bench.call(Rmi.PSCI_COMPLETE, bench.recs[0], bench.recs[1], PsciStatus.DENIED.x0).label == "status"


def test_psci_complete_wants_one_realm() -> None:
    bench = pending()
    other = bench.realm(vmid=2)
    stranger = bench.delegated()
    bench.ok(Rmi.REC_CREATE, other, stranger, bench.ns(bench.rec_params(0).pack()))
    assert bench.call(Rmi.PSCI_COMPLETE, bench.recs[0], stranger, 0).label == "owner"


def test_a_request_is_completed_once() -> None:
    bench = pending()
    bench.ok(Rmi.PSCI_COMPLETE, bench.recs[0], bench.recs[1], 0)
    assert bench.call(Rmi.PSCI_COMPLETE, bench.recs[0], bench.recs[1], 0).label == "pending"
