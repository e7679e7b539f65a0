"""A PE and memory without an engine, for tests of the RMM alone: a GPT, a bus that checks it, a Monitor's services."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from realmkit.arch.events import EventHub
from realmkit.arch.pas import GPI_OF_PAS, GRANULE_SIZE, Gpi, Pas, SecurityState
from realmkit.arch.rmi import RealmParams, ReturnCode, Rmi
from realmkit.arch.smccc import (
    E_RMM_BAD_ADDR,
    E_RMM_BAD_PAS,
    E_RMM_OK,
    E_RMM_UNK,
    GTSI_DELEGATE,
    GTSI_UNDELEGATE,
    RMI_REQ_COMPLETE,
    unsigned,
)
from realmkit.machine.port import CpuContext, ExternalAbort, GranuleProtectionFault
from realmkit.rmm.rmm import Rmm
from realmkit.rmm.state import GranuleState, Rec

RAM_BASE = 0x8000_0000
RAM_SIZE = 0x4000_0000
HIGH_BASE = 1 << 48
"""A second bank, where descriptors without LPA2 cannot reach."""
HIGH_SIZE = 0x10_0000
DEVICE = 0x1C09_0000

ID_REGISTERS = {
    "ID_AA64DFR0_EL1": 0x0000_0000_0030_5106,  # 6 breakpoints, 4 watchpoints
    "ID_AA64MMFR1_EL1": 0,  # 8-bit VMIDs
    "ID_AA64MMFR0_EL1": 0x0000_0000_0000_1125,
    "ID_AA64PFR0_EL1": 0x0010_0000_0110_1111,
    "MIDR_EL1": 0x410F_D0F0,
    "CNTFRQ_EL0": 100_000_000,
}


class FakeBus:
    """Physical memory seen from the Realm state: sparse pages, each access checked against ``gpt``."""

    def __init__(self) -> None:
        self.state = SecurityState.REALM
        self.pages: dict[int, bytearray] = {}
        self.gpt: dict[int, Gpi] = {}
        self.ram = [range(RAM_BASE, RAM_BASE + RAM_SIZE), range(HIGH_BASE, HIGH_BASE + HIGH_SIZE)]

    def gpi(self, pa: int) -> Gpi:
        return self.gpt.get(pa & -GRANULE_SIZE, Gpi.NS)

    def page(self, pas: Pas, pa: int, write: bool) -> bytearray:
        if pas not in (Pas.NS, Pas.REALM):
            raise AssertionError(f"the Realm state cannot name {pas!r}")
        held = self.gpi(pa)
        if held not in (GPI_OF_PAS[pas], Gpi.ANY):
            raise GranuleProtectionFault(pas, pa, held, write)
        if not any(pa in bank for bank in self.ram):
            raise ExternalAbort(pas, pa, 1, write)
        return self.pages.setdefault(pa & -GRANULE_SIZE, bytearray(GRANULE_SIZE))

    def read(self, pas: Pas, pa: int, size: int) -> bytes:
        offset = pa % GRANULE_SIZE
        assert offset + size <= GRANULE_SIZE, "the RMM never crosses a granule"
        return bytes(self.page(pas, pa, False)[offset : offset + size])

    def write(self, pas: Pas, pa: int, data: bytes) -> None:
        offset = pa % GRANULE_SIZE
        assert offset + len(data) <= GRANULE_SIZE, "the RMM never crosses a granule"
        self.page(pas, pa, True)[offset : offset + len(data)] = data

    def read64(self, pas: Pas, pa: int) -> int:
        return int(struct.unpack_from("<Q", self.page(pas, pa, False), pa % GRANULE_SIZE)[0])

    def write64(self, pas: Pas, pa: int, value: int) -> None:
        struct.pack_into("<Q", self.page(pas, pa, True), pa % GRANULE_SIZE, value)

    def zero(self, pas: Pas, pa: int, size: int) -> None:
        self.write(pas, pa, bytes(size))


@dataclass
class FakePort:
    """A PE at R-EL2. ``results`` collects what RMI_REQ_COMPLETE carried, ``entered`` the contexts given to the PE."""

    bus: FakeBus = field(default_factory=FakeBus)
    index: int = 0
    state: SecurityState = SecurityState.REALM
    events: EventHub = field(default_factory=EventHub)
    refusal: str | None = None
    id_registers: dict[str, int] = field(default_factory=lambda: dict(ID_REGISTERS))
    registers: dict[str, int] = field(default_factory=dict)
    results: list[tuple[int, ...]] = field(default_factory=list)
    entered: list[CpuContext] = field(default_factory=list)
    released: list[CpuContext] = field(default_factory=list)
    tlbi: list[tuple[int, ...]] = field(default_factory=list)
    """(vmid,) or (vmid, ipa, size) of each invalidation."""
    services: dict[int, Callable[..., tuple[int, ...]]] = field(default_factory=dict)
    """Further EL3 calls by function identifier; each gets X1.. and returns X0.."""
    tick: int = 0
    interrupt: bool = False

    def smc(self, fid: int, *args: int) -> tuple[int, ...]:
        if fid == RMI_REQ_COMPLETE:
            self.results.append((*args, *(0,) * (5 - len(args))))
            return ()
        if fid in (GTSI_DELEGATE, GTSI_UNDELEGATE):
            return (unsigned(self._transition(args[0], fid == GTSI_DELEGATE)), *(0,) * 7)
        if fid in self.services:
            outputs = self.services[fid](*args)
            return (*outputs, *(0,) * (8 - len(outputs)))
        return (unsigned(E_RMM_UNK), *(0,) * 7)

    def _transition(self, pa: int, delegate: bool) -> int:
        if pa % GRANULE_SIZE or not any(pa in bank for bank in self.bus.ram):
            return E_RMM_BAD_ADDR
        before, after = (Gpi.NS, Gpi.REALM) if delegate else (Gpi.REALM, Gpi.NS)
        if self.bus.gpi(pa) is not before:
            return E_RMM_BAD_PAS
        self.bus.gpt[pa] = after
        return E_RMM_OK

    def now(self) -> int:
        return self.tick

    def charge(self, ticks: int) -> None:
        self.tick += ticks

    def id_register(self, name: str) -> int:
        return self.id_registers.get(name, 0)

    def read(self, name: str) -> int:
        return self.registers.get(name, 0)

    def write(self, name: str, value: int) -> None:
        self.registers[name] = value

    def enter(self, ctx: CpuContext) -> None:
        self.entered.append(ctx)

    def release(self, ctx: CpuContext) -> None:
        self.released.append(ctx)

    def wait_for_interrupt(self) -> None:
        raise AssertionError("the RMM does not wait")

    def interrupt_pending(self) -> bool:
        return self.interrupt

    def tlbi_vmid(self, vmid: int) -> None:
        self.tlbi.append((vmid,))

    def tlbi_ipa(self, vmid: int, ipa: int, size: int) -> None:
        self.tlbi.append((vmid, ipa, size))


@dataclass(frozen=True)
class Result:
    """What a Host sees of an RMI call, and the label of the condition that refused it."""

    x0: int
    outputs: tuple[int, int, int, int]
    label: str | None

    @property
    def code(self) -> tuple[int, int]:
        """(status, index)."""
        unpacked = ReturnCode.unpack(self.x0)
        return int(unpacked.status), unpacked.index


class Bench:
    """An RMM on one fake PE, with the Host's half of each call: ``bench.call(Rmi.X, ...)``."""

    def __init__(self) -> None:
        self.rmm = Rmm()
        self.port = FakePort()
        self.rmm.granules.set_delegable([(RAM_BASE, RAM_SIZE), (HIGH_BASE, HIGH_SIZE)])
        self._next = RAM_BASE

    @property
    def bus(self) -> FakeBus:
        return self.port.bus

    def call(self, fid: int, *args: int) -> Result:
        """One RMI call; signed arguments are converted. The call must complete at once."""
        x = [fid, *(unsigned(a) for a in args)]
        before = len(self.port.results)
        self.rmm.on_smc(self.port, x + [0] * (8 - len(x)))
        assert len(self.port.results) == before + 1, "a call ends with exactly one completion"
        x0, x1, x2, x3, x4 = self.port.results[-1]
        return Result(x0, (x1, x2, x3, x4), self.port.refusal)

    def ok(self, fid: int, *args: int) -> tuple[int, int, int, int]:
        """A call that must succeed; its outputs."""
        result = self.call(fid, *args)
        assert result.x0 == 0, f"{Rmi(fid).name} refused: {result.label} ({result.code})"
        return result.outputs

    def ns(self, content: bytes = b"", align: int = GRANULE_SIZE) -> int:
        """A fresh Non-secure granule with this content."""
        self._next = -(-self._next // align) * align
        pa, self._next = self._next, self._next + GRANULE_SIZE
        if content:
            self.write_ns(pa, content)
        return pa

    def write_ns(self, pa: int, content: bytes) -> None:
        self.bus.write(Pas.NS, pa, content)

    def delegated(self, align: int = GRANULE_SIZE) -> int:
        """A fresh granule, delegated."""
        pa = self.ns(align=align)
        self.ok(Rmi.GRANULE_DELEGATE, pa)
        return pa

    def realm(
        self, ipa_width: int = 39, level_start: int = 1, number: int = 1, vmid: int = 1, **params: int | bytes
    ) -> int:
        """A Realm in state NEW; its RD."""
        rd = self.delegated()
        base = self.delegated(align=number * GRANULE_SIZE)
        for _ in range(number - 1):
            self.delegated()
        image = self.params(base, ipa_width, level_start, number, vmid, **params).pack()
        self.ok(Rmi.REALM_CREATE, rd, self.ns(image))
        return rd

    @staticmethod
    def params(
        rtt_base: int,
        ipa_width: int = 39,
        level_start: int = 1,
        number: int = 1,
        vmid: int = 1,
        **fields: int | bytes,
    ) -> RealmParams:
        """Parameters that REALM_CREATE accepts; ``fields`` replaces members."""
        params = RealmParams(
            s2sz=ipa_width,
            num_bps=1,
            num_wps=1,
            vmid=vmid,
            rtt_base=rtt_base,
            rtt_level_start=level_start,
            rtt_num_start=number,
        )
        for name, value in fields.items():
            setattr(params, name, value)
        return params

    def table(self, rd: int, ipa: int, level: int) -> int:
        """RTT_CREATE with a fresh granule; the new table."""
        rtt = self.delegated()
        self.ok(Rmi.RTT_CREATE, rd, rtt, ipa, level)
        return rtt

    def tables(self, rd: int, ipa: int, level: int = 3) -> None:
        """Create all missing tables down to ``level`` on the way to ``ipa``."""
        start = self.rmm.realms[rd].rtt_level_start
        for below in range(start + 1, level + 1):
            size = 1 << 12 + 9 * (4 - below)
            reached = self.ok(Rmi.RTT_READ_ENTRY, rd, ipa & -size, below - 1)
            if reached[1] != 2:
                self.table(rd, ipa & -size, below)

    def rec(self, rd: int, mpidr: int = 0) -> int:
        """A REC granule as REC_CREATE leaves it, without the command: for tests of what others do with a REC."""
        pa = self.delegated()
        realm = self.rmm.realms[rd]
        self.rmm.granules.take(self.port, pa, GranuleState.REC)
        self.rmm.recs[pa] = Rec(pa, realm, mpidr, CpuContext())
        realm.rec_index += 1
        realm.num_recs += 1
        return pa

    def snapshot(self) -> dict[str, object]:
        """All that a command can change: equal snapshots mean that nothing observable happened."""
        rmm = self.rmm
        states = (state for state in GranuleState if state is not GranuleState.UNDELEGATED)
        return {
            "granules": {state: tuple(rmm.granules.in_state(state)) for state in states},
            "gpt": {pa: gpi for pa, gpi in self.bus.gpt.items() if gpi is not Gpi.NS},
            "memory": {pa: bytes(page) for pa, page in self.bus.pages.items() if any(page)},
            "realms": {
                rd: (realm.state, tuple(realm.measurements), realm.rec_index, realm.num_recs)
                for rd, realm in rmm.realms.items()
            },
            "recs": {
                pa: (rec.runnable, rec.running, replace(rec.ripas) if rec.ripas else None)
                for pa, rec in rmm.recs.items()
            },
            "vmids": frozenset(rmm.vmids),
            "live": dict(rmm.live_entries),
            "tlbi": tuple(self.port.tlbi),
        }

    def page(self, rd: int, ipa: int) -> int:
        """DATA_CREATE_UNKNOWN with a fresh granule; the granule."""
        data = self.delegated()
        self.ok(Rmi.DATA_CREATE_UNKNOWN, rd, data, ipa)
        return data
