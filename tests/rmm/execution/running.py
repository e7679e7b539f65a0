"""A Realm that runs on the fake PE: its RECs, its memory, and both ends of an entry."""

from collections.abc import Sequence
from typing import Any

from realmkit.arch.esr import ISS_SYSREG, Ec, make_esr
from realmkit.arch.pas import GRANULE_SIZE, Pas
from realmkit.arch.rmi import REC_EXIT_OFFSET, RecEnter, RecExit, RecParams, Ripas, Rmi, index_to_mpidr
from realmkit.arch.sysregs import ENCODINGS
from realmkit.machine.port import CpuContext, ExceptionInfo, ExceptionKind
from realmkit.rmm.features import REC_AUX_COUNT
from realmkit.rmm.rtt import translate
from realmkit.rmm.state import Rec, RipasRequest
from tests.rmm.fake import Bench, Result

IPA_WIDTH = 39
UNPROTECTED = 1 << IPA_WIDTH - 1
OUTSIDE = 1 << IPA_WIDTH
CODE = 0x1000
"""Where RECs start; nothing is there, because nothing is executed."""
BUFFER = 0x1_0000
"""RAM, ASSIGNED."""
SECOND = 0x1_1000
"""RAM, ASSIGNED."""
UNMAPPED = 0x1_2000
"""RAM, UNASSIGNED."""
DESTROYED = 0x1_3000
EMPTY = 0x18_0000
EMPTY_BLOCK = 0x20_0000
"""EMPTY, in an entry of level 2."""
SHARED = UNPROTECTED + 0x1000
"""ASSIGNED_NS."""
NOT_SHARED = UNPROTECTED + 0x2000
"""UNASSIGNED_NS."""
VBAR = 0x8_0000


class Running(Bench):
    """An active Realm with RECs; only REC 0 is runnable. ``take`` and ``smc`` are what happens while one runs."""

    def __init__(self, recs: int = 1, activate: bool = True, hash_algo: int = 0, rpv: bytes = bytes(64)) -> None:
        super().__init__()
        self.rd = self.realm(IPA_WIDTH, hash_algo=hash_algo, rpv=rpv)
        self.tables(self.rd, 0)
        self.ok(Rmi.RTT_INIT_RIPAS, self.rd, 0, 0x10_0000)
        for ipa in (BUFFER, SECOND, DESTROYED):
            self.page(self.rd, ipa)
        self.ok(Rmi.DATA_DESTROY, self.rd, DESTROYED)
        self.tables(self.rd, UNPROTECTED)
        self.ok(Rmi.RTT_MAP_UNPROTECTED, self.rd, SHARED, 3, self.ns() | 6 << 2 | 3 << 6)
        self.recs = [self.create_rec(index) for index in range(recs)]
        self.run = self.ns()
        if activate:
            self.ok(Rmi.REALM_ACTIVATE, self.rd)

    # ---- the Host's half ----

    def rec_params(self, index: int, **fields: Any) -> RecParams:
        """Parameters that REC_CREATE accepts, with fresh auxiliary granules; ``fields`` replaces members."""
        aux = tuple(self.delegated() for _ in range(REC_AUX_COUNT))
        params = RecParams(
            flags=int(index == 0),
            mpidr=index_to_mpidr(index),
            pc=CODE,
            num_aux=REC_AUX_COUNT,
            aux=aux + (0,) * (16 - len(aux)),
        )
        for name, value in fields.items():
            setattr(params, name, value)
        return params

    def create_rec(self, index: int, **fields: Any) -> int:
        """REC_CREATE; the REC granule."""
        pa = self.delegated()
        self.ok(Rmi.REC_CREATE, self.rd, pa, self.ns(self.rec_params(index, **fields).pack()))
        return pa

    def write_enter(self, flags: int = 0, gprs: Sequence[int] = (), hcr: int = 0, lrs: Sequence[int] = ()) -> None:
        """Fill RmiRecEnter."""
        enter = RecEnter(
            flags=flags,
            gprs=(*gprs, *(0,) * (31 - len(gprs))),
            gicv3_hcr=hcr,
            gicv3_lrs=(*lrs, *(0,) * (16 - len(lrs))),
        )
        self.write_ns(self.run, enter.pack())

    def refused(
        self, flags: int = 0, gprs: Sequence[int] = (), hcr: int = 0, lrs: Sequence[int] = (), rec: int = 0
    ) -> Result:
        """A REC_ENTER that does not enter."""
        self.write_enter(flags, gprs, hcr, lrs)
        return self.call(Rmi.REC_ENTER, self.recs[rec], self.run)

    def enter(
        self, flags: int = 0, gprs: Sequence[int] = (), hcr: int = 0, lrs: Sequence[int] = (), rec: int = 0
    ) -> CpuContext:
        """A REC_ENTER that enters; the context."""
        self.write_enter(flags, gprs, hcr, lrs)
        before, results = len(self.port.entered), len(self.port.results)
        self.rmm.on_smc(self.port, [Rmi.REC_ENTER, self.recs[rec], self.run, *[0] * 5])
        assert len(self.port.results) == results, f"refused: {self.port.refusal}"
        assert len(self.port.entered) == before + 1
        return self.port.entered[-1]

    def exit_record(self) -> RecExit:
        """RmiRecExit as it stands in memory."""
        return RecExit.unpack(self.bus.read(Pas.NS, self.run + REC_EXIT_OFFSET, RecExit.SIZE))

    def change_ripas(self, ipa: int, value: Ripas, rec: int = 1) -> None:
        """RIPAS of a page, by request of another REC of the Realm."""
        state = self.rec_state(rec)
        state.ripas = RipasRequest(ipa, ipa + GRANULE_SIZE, value, True)
        self.ok(Rmi.RTT_SET_RIPAS, self.rd, state.pa, ipa, ipa + GRANULE_SIZE)
        state.ripas = None

    # ---- the Realm's half ----

    def rec_state(self, index: int = 0) -> Rec:
        """The RMM's view of a REC."""
        return self.rmm.recs[self.recs[index]]

    def context(self, index: int = 0) -> CpuContext:
        """Registers of a REC."""
        return self.rec_state(index).ctx

    def take(
        self, esr: int = 0, far: int = 0, hpfar: int = 0, kind: ExceptionKind = ExceptionKind.SYNC
    ) -> RecExit | None:
        """An exception of the REC that runs: its exit record, or None when the Realm goes on."""
        ctx = self.rmm.running[self.port.index].ctx
        entered, results = len(self.port.entered), len(self.port.results)
        self.rmm.on_exception(self.port, ctx, ExceptionInfo(kind, esr, far, hpfar))
        left, goes_on = len(self.port.results) - results, len(self.port.entered) - entered
        assert left + goes_on == 1, "an exception ends with exactly one of exit and entry"
        if goes_on:
            assert self.port.entered[-1] is ctx
            return None
        assert self.port.results[-1] == (0, 0, 0, 0, 0)
        return self.exit_record()

    def smc(self, fid: int, *args: int) -> RecExit | None:
        """An SMC of the Realm."""
        ctx = self.rmm.running[self.port.index].ctx
        ctx.x[0 : 1 + len(args)] = [fid, *args]
        return self.take(make_esr(Ec.SMC64))

    def sysreg(self, name: str, rt: int, read: bool = False) -> RecExit | None:
        """A trapped access."""
        op0, op1, crn, crm, op2 = ENCODINGS[name]
        iss = ISS_SYSREG.make(READ=int(read), Rt=rt, Op0=op0, Op1=op1, CRn=crn, CRm=crm, Op2=op2)
        return self.take(make_esr(Ec.SYSREG, iss))

    def abort(self, ipa: int, iss: int = 0x7, ec: Ec = Ec.DABT_LOWER, va: int | None = None) -> RecExit | None:
        """A stage 2 abort at ``ipa``."""
        return self.take(make_esr(ec, iss), ipa if va is None else va, ipa >> 12 << 4)

    def interrupt(self) -> RecExit:
        """A physical IRQ: the simplest way out."""
        record = self.take(kind=ExceptionKind.IRQ)
        assert record is not None
        return record

    # ---- the Realm's memory ----

    def pa(self, ipa: int) -> int:
        """Where an ASSIGNED page lies."""
        return translate(self.port, self.rmm.realms[self.rd], ipa).pa

    def peek(self, ipa: int, size: int = GRANULE_SIZE) -> bytes:
        """Realm memory."""
        return self.bus.read(Pas.REALM, self.pa(ipa), size)

    def poke(self, ipa: int, content: bytes) -> None:
        """Change Realm memory."""
        self.bus.write(Pas.REALM, self.pa(ipa), content)

    def ripas(self, ipa: int) -> Ripas:
        """RIPAS of a page."""
        return translate(self.port, self.rmm.realms[self.rd], ipa).ripas

    def state(self) -> dict[str, object]:
        """Everything that a refused command must not change, registers of RECs included."""
        recs = {
            pa: (
                rec.runnable,
                rec.running,
                rec.unprotected_abort,
                repr(rec.psci_pending),
                rec.host_call_ipa,
                repr(rec.ripas),
                rec.timer_masks,
                tuple(rec.ctx.x),
                rec.ctx.pc,
                rec.ctx.pstate,
                tuple(sorted(rec.ctx.regs.items())),
                repr(rec.ctx.ich),
            )
            for pa, rec in self.rmm.recs.items()
        }
        return {**self.snapshot(), "recs": recs, "running": dict(self.rmm.running)}
