"""A Realm of a few instructions on the real machine, driven by raw RMI calls: exit records bit by bit."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from realmkit.arch.gic import PPI_CNTHP
from realmkit.arch.pas import GRANULE_SIZE, Pas, SecurityState
from realmkit.arch.psci import SYSTEM_OFF
from realmkit.arch.rmi import (
    REC_EXIT_OFFSET,
    ExitReason,
    RealmParams,
    RecEnter,
    RecExit,
    RecParams,
    Rmi,
    index_to_mpidr,
)
from realmkit.arch.rsi import Rsi
from realmkit.machine.port import CpuContext
from realmkit.stack import Stack, assemble
from tests.conformance import words
from tests.conformance.words import Code

IPA_WIDTH = 39
UNPROTECTED = 1 << IPA_WIDTH - 1
OUTSIDE = 1 << IPA_WIDTH
CODE = 0x1000
VECTORS = 0x2000
CALL = 0x3000
"""RAM, ASSIGNED: RsiHostCall and other buffers."""
RAM = 0x4000
"""RAM, ASSIGNED."""
UNMAPPED = 0x5000
"""RAM, UNASSIGNED."""
DESTROYED = 0x6000
EMPTY = 0x10_0000
EMPTY_ASSIGNED = 0x10_1000
MAPPED = UNPROTECTED + 0x1000
"""ASSIGNED_NS, read and write."""
NOT_MAPPED = UNPROTECTED + 0x2000
"""UNASSIGNED_NS."""
WRITE_ONLY = UNPROTECTED + 0x3000
READ_ONLY = UNPROTECTED + 0x4000
HANDLED = 0x7E
"""Immediate of the host call that the vectors end in: kind of the vector, ESR, FAR, ELR, SPSR are in the registers."""
DONE = 0x7F
"""Immediate of the host call at the end of a program."""

_FREE = 0x8800_0000
"""Non-secure memory that the tests hand out page by page."""
_WRITE_BACK, _READ, _WRITE = 6 << 2, 1 << 6, 1 << 7
_VECTOR_SIZE = 0x80


@dataclass(frozen=True)
class Outcome:
    """A REC_ENTER: X0, and the record that it left."""

    x0: int
    record: RecExit

    def shows(self, reason: ExitReason, **fields: Any) -> None:
        """The record holds exactly this, besides GIC and timer state, which every exit reports."""
        assert self.x0 == 0
        expected: dict[str, Any] = {"exit_reason": int(reason), **fields}
        for name, value in self.seen().items():
            assert value == expected.get(name, 0), f"{name}: {value:#x} instead of {expected.get(name, 0):#x}"
        gprs = expected.get("gprs", ())
        assert self.record.gprs == (*gprs, *(0,) * (31 - len(gprs)))

    def seen(self) -> dict[str, int]:
        """Fields that an exit reason defines, without the registers."""
        names = "exit_reason esr far hpfar ripas_base ripas_top ripas_value imm pmu_ovf_status"
        return {name: getattr(self.record, name) for name in names.split()}


def host_call(immediate: int) -> Code:
    """RSI_HOST_CALL with what lies in the registers of the structure at CALL; changes X0 and X1 only."""
    return [
        *words.mov(1, CALL),
        *words.mov(0, immediate),
        words.ldst(1, 0, 0, 1),
        *words.mov(0, Rsi.HOST_CALL),
        words.SMC,
    ]


def vectors() -> bytes:
    """Every vector tells the Host which it is and ESR, FAR, ELR and SPSR, then goes on behind the instruction."""
    end = 16 * _VECTOR_SIZE
    table = b""
    for place in range(0, end, _VECTOR_SIZE):
        load = words.mov(10, place)
        code = [*load, words.b((end - place) // 4 - len(load))]
        table += struct.pack(f"<{len(code)}I", *code).ljust(_VECTOR_SIZE, b"\0")
    return table + struct.pack(f"<{len(_HANDLER)}I", *_HANDLER)


_HANDLER: Code = [
    *words.mov(1, CALL),
    words.str_(10, 1, 1),
    words.mrs(11, "ESR_EL1"),
    words.str_(11, 1, 2),
    words.mrs(11, "FAR_EL1"),
    words.str_(11, 1, 3),
    words.mrs(11, "ELR_EL1"),
    words.str_(11, 1, 4),
    words.mrs(11, "SPSR_EL1"),
    words.str_(11, 1, 5),
    *host_call(HANDLED),
    words.mrs(11, "ELR_EL1"),
    words.add(11, 11, 4),
    words.msr("ELR_EL1", 11),
    words.ERET,
]


class Kit:
    """A booted stack and one active Realm whose RECs start at CODE.

    ``mapped``: further Protected pages, measured before activation. ``params`` replaces fields of RmiRealmParams.
    """

    def __init__(
        self, program: Sequence[int], recs: int = 1, mapped: Mapping[int, bytes] | None = None, **params: Any
    ) -> None:
        self.stack: Stack = assemble()
        self.port = self.stack.host_port()
        self._next = _FREE
        self.rd = self.granule()
        self.rtt_base = self.granule()
        self.ok(Rmi.REALM_CREATE, self.rd, self.page(self._params(**params)))
        for level in (2, 3):
            self.ok(Rmi.RTT_CREATE, self.rd, self.granule(), 0, level)
            self.ok(Rmi.RTT_CREATE, self.rd, self.granule(), UNPROTECTED, level)
        self.ok(Rmi.RTT_INIT_RIPAS, self.rd, CODE, DESTROYED + GRANULE_SIZE)
        code = struct.pack(f"<{len(program)}I", *program)
        self.pages = {CODE: self.data(CODE, code), VECTORS: self.data(VECTORS, vectors())}
        for ipa in (CALL, RAM, DESTROYED):
            self.pages[ipa] = self.data(ipa)
        for ipa, content in (mapped or {}).items():
            self.pages[ipa] = self.map(ipa, content)
        self.ok(Rmi.DATA_CREATE_UNKNOWN, self.rd, self.granule(), EMPTY_ASSIGNED)
        self.ok(Rmi.DATA_DESTROY, self.rd, DESTROYED)
        self.shared = self.page()
        for ipa, access in ((MAPPED, _READ | _WRITE), (WRITE_ONLY, _WRITE), (READ_ONLY, _READ)):
            self.ok(Rmi.RTT_MAP_UNPROTECTED, self.rd, ipa, 3, self.shared | _WRITE_BACK | access)
        self.recs = [self.rec(index) for index in range(recs)]
        self.run = self.page()
        self.ok(Rmi.REALM_ACTIVATE, self.rd)

    def _params(self, **fields: Any) -> bytes:
        params = RealmParams(s2sz=IPA_WIDTH, num_bps=1, num_wps=1, rtt_base=self.rtt_base, rtt_level_start=1)
        params.rtt_num_start = 1
        for name, value in fields.items():
            setattr(params, name, value)
        return params.pack()

    # ---- memory of the Host ----

    def page(self, content: bytes = b"") -> int:
        """A page of Non-secure memory."""
        pa, self._next = self._next, self._next + GRANULE_SIZE
        self.port.bus.write(Pas.NS, pa, content.ljust(GRANULE_SIZE, b"\0"))
        return pa

    def granule(self) -> int:
        """A DELEGATED granule."""
        pa = self.page()
        self.ok(Rmi.GRANULE_DELEGATE, pa)
        return pa

    def data(self, ipa: int, content: bytes = b"") -> int:
        """DATA_CREATE; the granule."""
        pa = self.granule()
        self.ok(Rmi.DATA_CREATE, self.rd, pa, ipa, self.page(content), 0)
        return pa

    def map(self, ipa: int, content: bytes) -> int:
        """DATA_CREATE after making the tables that it needs; the granule."""
        for level in (2, 3):
            entry = ipa & ~((1 << 12 + 9 * (4 - level)) - 1)
            self.call(Rmi.RTT_CREATE, self.rd, self.granule(), entry, level)
        return self.data(ipa, content)

    def read(self, pa: int, size: int) -> bytes:
        """Memory as the Host sees it."""
        return self.port.bus.read(Pas.NS, pa, size)

    def read_realm(self, ipa: int, size: int) -> bytes:
        """Memory of the Realm at a Protected address that the kit has mapped."""
        return self.stack.machine.buses[SecurityState.REALM].read(
            Pas.REALM, self.pages[ipa & ~0xFFF] + (ipa & 0xFFF), size
        )

    def rec(self, index: int) -> int:
        """REC_CREATE; only the first is runnable."""
        pa = self.granule()
        count = self.ok(Rmi.REC_AUX_COUNT, self.rd)[1]
        aux = tuple(self.granule() for _ in range(count))
        params = RecParams(
            flags=int(index == 0),
            mpidr=index_to_mpidr(index),
            pc=CODE,
            gprs=tuple(range(0x1000, 0x1008)),
            num_aux=count,
            aux=(*aux, *(0,) * (16 - count)),
        )
        self.ok(Rmi.REC_CREATE, self.rd, pa, self.page(params.pack()))
        return pa

    # ---- calls of the Host ----

    def call(self, fid: int, *arguments: int) -> tuple[int, ...]:
        """An SMC: X0-X7."""
        return self.port.smc(fid, *arguments)

    def ok(self, fid: int, *arguments: int) -> tuple[int, ...]:
        """An SMC that succeeds."""
        results = self.call(fid, *arguments)
        assert results[0] == 0, f"{Rmi(fid).name}: {results[0]:#x} {self.port.refusal}"
        return results

    def enter(
        self, flags: int = 0, gprs: Sequence[int] = (), hcr: int = 0, lrs: Sequence[int] = (), rec: int = 0
    ) -> Outcome:
        """RMI_REC_ENTER."""
        enter = RecEnter(
            flags=flags,
            gprs=(*gprs, *(0,) * (31 - len(gprs))),
            gicv3_hcr=hcr,
            gicv3_lrs=(*lrs, *(0,) * (16 - len(lrs))),
        )
        self.port.bus.write(Pas.NS, self.run, enter.pack())
        x0 = self.call(Rmi.REC_ENTER, self.recs[rec], self.run)[0]
        return Outcome(x0, RecExit.unpack(self.port.bus.read(Pas.NS, self.run + REC_EXIT_OFFSET, RecExit.SIZE)))

    def done(self, **entry: Any) -> CpuContext:
        """Enter, reach the end of the program: the registers of REC 0."""
        self._host_call(DONE, **entry)
        return self.context()

    def handled(self, **entry: Any) -> tuple[int, int, int, int, int]:
        """Enter, an exception goes to the Realm: offset of the vector, ESR, FAR, ELR, SPSR."""
        vector, esr, far, elr, spsr = self._host_call(HANDLED, **entry).gprs[:5]
        return vector, esr, far, elr, spsr

    def _host_call(self, immediate: int, **entry: Any) -> RecExit:
        outcome = self.enter(**entry)
        record = outcome.record
        assert (outcome.x0, record.exit_reason, record.imm) == (0, ExitReason.HOST_CALL, immediate), outcome
        return record

    def ticks(self, count: int, *ppis: int, **entry: Any) -> Outcome:
        """Enter for about ``count`` ticks: a timer of the Host ends the run; ``ppis`` are routed as well."""
        self.route_interrupts(PPI_CNTHP, *ppis)
        self.port.write("CNTHP_CVAL_EL2", self.port.now() + count)
        self.port.write("CNTHP_CTL_EL2", 1)
        outcome = self.enter(**entry)
        self.port.write("CNTHP_CTL_EL2", 0)
        return outcome

    def route_interrupts(self, *ppis: int) -> None:
        """Let PPIs of this PE through to the Host."""
        platform = self.stack.machine.platform
        frame = platform.device("gicr").base
        bits = sum(1 << ppi for ppi in ppis)
        for address, value in (
            (platform.device("gicd").base, 0x13),
            (frame + 0x14, 0),
            (frame + 0x1_0080, 0xFFFF_FFFF),
            (frame + 0x1_0180, 0xFFFF_FFFF),
            *((frame + 0x1_0400 + 4 * n, 0xA0A0_A0A0) for n in range(8)),
            (frame + 0x1_0100, bits),
        ):
            self.port.bus.write(Pas.NS, address, value.to_bytes(4, "little"))
        self.port.write("ICC_PMR_EL1", 0xFF)
        self.port.write("ICC_IGRPEN1_EL1", 1)

    def context(self, rec: int = 0) -> CpuContext:
        """Registers of a REC that does not run."""
        return self.stack.rmm.recs[self.recs[rec]].ctx


def program(*parts: int | Sequence[int]) -> Code:
    """Vectors on, the parts, the host call that says DONE, power off."""
    code: Code = [*words.mov(9, VECTORS), words.msr("VBAR_EL1", 9), words.ISB]
    for part in parts:
        code += [part] if isinstance(part, int) else part
    return [*code, *host_call(DONE), *words.call(SYSTEM_OFF), words.HERE]
