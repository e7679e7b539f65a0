"""A booted machine, Realms whose code is a list of instructions, a Python Host, and Host code at NS-EL2.

Everything the Host does goes by SMC and its own bus. A Realm talks to the test by stores to :data:`OUT`, an Unprotected
address where the Host emulates a register bank: :func:`out` reports a register, :func:`ask` reads the next input,
:func:`done` ends the run. An exception that the Realm takes to its EL1 is reported and ends it too.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from realmkit.arch.esr import ISS_DABT, Ec, exception_class
from realmkit.arch.events import Event
from realmkit.arch.gic import PPI_CNTHP
from realmkit.arch.pas import GRANULE_SIZE, Pas
from realmkit.arch.psci import SYSTEM_OFF
from realmkit.arch.rmi import (
    DATA_MEASURE_CONTENT,
    ENTER_EMUL_MMIO,
    REC_EXIT_OFFSET,
    ExitReason,
    RealmParams,
    RecEnter,
    RecExit,
    RecParams,
    Rmi,
    index_to_mpidr,
)
from realmkit.host.physical_gic import PhysicalGic
from realmkit.host.rmi import RmiClient, RmiResult
from realmkit.machine.machine import Machine
from realmkit.machine.pe import NonSecurePort
from realmkit.machine.platforms import small
from realmkit.machine.port import PSTATE_RESET_EL2, CpuContext
from realmkit.stack import Stack, assemble
from tests.isolation import code, programs
from tests.isolation.code import Code
from tests.isolation.programs import (
    ASK,
    BASE,
    CODE,
    DATA,
    DONE,
    ELR,
    ESR,
    FAR,
    OUT,
    RAM_TOP,
    SHARED,
    UNPROTECTED,
    VECTORS,
    WIDTH,
    done,
)

_SLICE = 3_000_000
_LIMIT = 100_000_000


@dataclass(frozen=True, slots=True)
class Abort:
    """An exception that software took: its syndrome registers."""

    esr: int
    far: int
    elr: int

    @property
    def ec(self) -> int:
        """Exception class."""
        return exception_class(self.esr)

    @property
    def fsc(self) -> int:
        """Fault status code of an abort."""
        return self.esr & 0x3F

    @property
    def write(self) -> bool:
        """ESR.WnR."""
        return bool(ISS_DABT.get(self.esr, "WnR"))

    @property
    def external(self) -> bool:
        """A synchronous external abort, as the RMM injects it."""
        return self.fsc == 0x10 and bool(ISS_DABT.get(self.esr, "EA"))


@dataclass(slots=True)
class Run:
    """What a Realm did: reported ``values``, the ``abort`` it took, or the ``exit`` that the test has to serve."""

    values: list[int] = field(default_factory=list)
    abort: Abort | None = None
    exit: RecExit | None = None


@dataclass(slots=True)
class HostRun:
    """End of a program at NS-EL2: X0-X30, and the exception that it took."""

    x: list[int]
    abort: Abort | None


def fault_ipa(record: RecExit) -> int:
    """IPA of an abort that the Host learns of."""
    return (record.hpfar & 0xFF_FFFF_FFF0) << 8 | record.far & 0xFFF


@dataclass(slots=True)
class Guest:
    """A Realm and what its Host knows of it."""

    world: "World"
    rd: int
    rtt_base: int
    data: dict[int, int] = field(default_factory=dict)
    """Protected IPA to granule."""
    tables: dict[tuple[int, int], int] = field(default_factory=dict)
    """(level, IPA) to granule."""
    recs: list[int] = field(default_factory=list)
    aux: list[int] = field(default_factory=list)
    run_page: int = 0
    started: bool = False

    # ---- memory ----

    def granules(self) -> dict[str, int]:
        """One granule of each kind, by name."""
        return {
            "rd": self.rd,
            "starting table": self.rtt_base,
            "level 2 table": self.tables[2, 0],
            "level 3 table": self.tables[3, 0],
            "code": self.data[CODE],
            "data": self.data[DATA],
            "rec": self.recs[0],
            "rec aux": self.aux[0],
        }

    def provide(self, ipa: int, granule: int | None = None) -> int:
        """DATA_CREATE_UNKNOWN with a new granule or a given one, which is delegated."""
        granule = self.world.delegated() if granule is None else granule
        self.world.ok(Rmi.DATA_CREATE_UNKNOWN, self.rd, granule, ipa)
        self.data[ipa] = granule
        return granule

    def reclaim(self, ipa: int) -> int:
        """DATA_DESTROY: the granule, which stays delegated."""
        granule = self.world.ok(Rmi.DATA_DESTROY, self.rd, ipa).x1
        assert granule == self.data.pop(ipa)
        return granule

    def table(self, ipa: int, level: int) -> None:
        """RTT_CREATE."""
        granule = self.world.delegated()
        self.world.ok(Rmi.RTT_CREATE, self.rd, granule, ipa, level)
        self.tables[level, ipa] = granule

    def share(self, pa: int, ipa: int = SHARED, attributes: int = programs.SHARED_ATTRIBUTES) -> None:
        """RTT_MAP_UNPROTECTED of whatever is at ``pa``."""
        self.world.ok(Rmi.RTT_MAP_UNPROTECTED, self.rd, ipa, 3, pa | attributes)

    def unshare(self, ipa: int = SHARED) -> None:
        """RTT_UNMAP_UNPROTECTED."""
        self.world.ok(Rmi.RTT_UNMAP_UNPROTECTED, self.rd, ipa, 3)

    def entry(self, ipa: int, level: int = 3) -> RmiResult:
        """RTT_READ_ENTRY: walk level, state, descriptor, RIPAS."""
        return self.world.ok(Rmi.RTT_READ_ENTRY, self.rd, ipa, level)

    def set_ripas(self, record: RecExit) -> None:
        """Serve a RIPAS change, page by page."""
        base = record.ripas_base
        while base < record.ripas_top:
            base = self.world.ok(Rmi.RTT_SET_RIPAS, self.rd, self.recs[0], base, record.ripas_top).x1

    # ---- running ----

    def enter(self, flags: int = 0, value: int = 0, rec: int = 0) -> RecExit:
        """One RMI_REC_ENTER, which the Host's timer ends after a while."""
        port = self.world.port
        port.bus.write(Pas.NS, self.run_page, RecEnter(flags, (value, *(0,) * 30), 0, (0,) * 16).pack())
        port.write("CNTHP_CVAL_EL2", port.now() + _SLICE)
        port.write("CNTHP_CTL_EL2", 1)
        self.world.ok(Rmi.REC_ENTER, self.recs[rec], self.run_page)
        self.world.acknowledge()
        return RecExit.unpack(port.bus.read(Pas.NS, self.run_page + REC_EXIT_OFFSET, RecExit.SIZE))

    def run(self, *inputs: int, flags: int = 0) -> Run:
        """Enter until the program wants an input that is not there, ends, takes an exception, or exits otherwise."""
        given = list(inputs)
        result = Run()
        registers: dict[int, int] = {}
        value = 0
        if self.started and not flags:
            # The last run ended in a store to OUT or in a load from it.
            flags, value = ENTER_EMUL_MMIO, given.pop(0) if given else 0
        self.started = True
        while True:
            record = self.enter(flags, value)
            place = _register(record)
            if place is None:
                self.started = False
                result.exit = record
                return result
            flags, value = ENTER_EMUL_MMIO, 0
            if place == ASK:
                if not given:
                    return result
                value = given.pop(0)
            elif place == 0:
                result.values.append(record.gprs[0])
            elif place == DONE:
                if ESR in registers:
                    result.abort = Abort(registers[ESR], registers[FAR], registers[ELR])
                return result
            else:
                registers[place] = record.gprs[0]

    def destroy(self) -> None:
        """Destroy the Realm; every granule must come back clean."""
        world = self.world
        for rec in self.recs:
            world.ok(Rmi.REC_DESTROY, rec)
        for ipa in sorted(self.data):
            world.release(self.reclaim(ipa))
        for level, ipa in sorted(self.tables, reverse=True):
            world.release(world.ok(Rmi.RTT_DESTROY, self.rd, ipa, level).x1)
        world.ok(Rmi.REALM_DESTROY, self.rd)
        for granule in (*self.recs, *self.aux, self.rd, self.rtt_base):
            world.release(granule)


def _register(record: RecExit) -> int | None:
    """Offset of an emulatable access to the register bank."""
    emulatable = record.exit_reason == ExitReason.SYNC and record.esr & ISS_DABT.mask("ISV")
    place = fault_ipa(record) - OUT
    return place if emulatable and exception_class(record.esr) == Ec.DABT_LOWER and 0 <= place < GRANULE_SIZE else None


class World:
    """A booted machine with a Python Host that owns all its Non-secure memory."""

    def __init__(self, pes: int = 1) -> None:
        self.stack: Stack = assemble(small(pes=pes))
        self.machine: Machine = self.stack.machine
        self.port: NonSecurePort = self.stack.host_port()
        self.rmi = RmiClient(self.port)
        platform = self.machine.platform
        first = platform.nonsecure_ram()[0]
        self._next = first.base + 0x10_0000
        self._vmid = 0
        PhysicalGic(platform.device("gicd").base, platform.device("gicr").base).enable(self.port, (PPI_CNTHP,))

    # ---- the Host ----

    def ok(self, command: Rmi, *arguments: int) -> RmiResult:
        """A command that succeeds."""
        result = self.rmi.call(command, *arguments)
        assert result.success, self.rmi.error(command, arguments, result)
        return result

    def refused(self, command: Rmi, *arguments: int) -> str:
        """A command that is refused: the label of the condition."""
        result = self.rmi.call(command, *arguments)
        assert not result.success
        assert self.port.refusal is not None
        return self.port.refusal

    def page(self, content: bytes = b"") -> int:
        """A page of the Host's."""
        pa = self._next
        self._next += GRANULE_SIZE
        if content:
            self.write(pa, content)
        return pa

    def delegated(self) -> int:
        """A delegated granule."""
        pa = self.page()
        self.ok(Rmi.GRANULE_DELEGATE, pa)
        return pa

    def release(self, pa: int) -> None:
        """Undelegate; the granule must be clean."""
        self.ok(Rmi.GRANULE_UNDELEGATE, pa)
        assert not any(self.read(pa, GRANULE_SIZE))

    def read(self, pa: int, size: int = 8) -> bytes:
        """The Python Host reads memory."""
        return self.port.bus.read(Pas.NS, pa, size)

    def write(self, pa: int, data: bytes) -> None:
        """The Python Host writes memory."""
        self.port.bus.write(Pas.NS, pa, data)

    def acknowledge(self) -> None:
        """The Host takes what interrupts are pending."""
        while (intid := self.port.read("ICC_IAR1_EL1") & 0xFF_FFFF) < 1020:
            self.port.write("CNTHP_CTL_EL2", 2)
            self.port.write("ICC_EOIR1_EL1", intid)

    # ---- Realms ----

    def realm(self, program: Code, pages: dict[int, bytes] | None = None, recs: int = 1) -> Guest:
        """An active Realm that starts ``program`` at EL1, MMU off, with further ``pages`` of contents by IPA.

        Everything below :data:`RAM_TOP` is RAM; a page that is not given is not there.
        """
        prologue = [*code.mov(BASE, OUT), *code.write_sysreg("VBAR_EL1", VECTORS)]
        text = code.pack([*prologue, *program, *done()])
        assert len(text) <= GRANULE_SIZE
        self._vmid += 1
        rd, rtt = self.delegated(), self.delegated()
        params = RealmParams(0, WIDTH, 0, 1, 1, 0, 0, bytes(64), self._vmid, rtt, 1, 1)
        self.ok(Rmi.REALM_CREATE, rd, self.page(params.pack()))
        guest = Guest(self, rd, rtt, run_page=self.page())
        for base in (0, UNPROTECTED):
            guest.table(base, 2)
        guest.table(0, 3)
        guest.table(SHARED, 3)
        self.ok(Rmi.RTT_INIT_RIPAS, rd, 0, RAM_TOP)
        for ipa, content in {CODE: text, VECTORS: programs.vectors(), DATA: b"", **(pages or {})}.items():
            source, granule = self.page(content), self.delegated()
            self.ok(Rmi.DATA_CREATE, rd, granule, ipa, source, DATA_MEASURE_CONTENT)
            guest.data[ipa] = granule
        for index in range(recs):
            self._create_rec(guest, index)
        self.ok(Rmi.REALM_ACTIVATE, rd)
        return guest

    def _create_rec(self, guest: Guest, index: int) -> None:
        aux = [self.delegated() for _ in range(self.ok(Rmi.REC_AUX_COUNT, guest.rd).x1)]
        params = RecParams(
            1, index_to_mpidr(index), CODE, (index, *(0,) * 7), len(aux), (*aux, *(0,) * (16 - len(aux)))
        )
        rec = self.delegated()
        self.ok(Rmi.REC_CREATE, guest.rd, rec, self.page(params.pack()))
        guest.recs.append(rec)
        guest.aux += aux

    # ---- real code of the Host ----

    def run_at_el2(self, program: Code, setup: Callable[[CpuContext], None] | None = None) -> HostRun:
        """Real code at NS-EL2, MMU off, on PE 0, until it falls through or EL2 takes an exception."""
        off = code.smc(SYSTEM_OFF)
        report = [code.mrs(21, "ESR_EL2"), code.mrs(22, "FAR_EL2"), code.mrs(23, "ELR_EL2"), *code.mov(20, 1), *off]
        vectors = self.page(code.pack(report).ljust(0x80, b"\0") * 16)
        image = self.page(code.pack([*code.write_sysreg("VBAR_EL2", vectors), *program, *code.mov(20, 0), *off]))
        context = CpuContext(pc=image, pstate=PSTATE_RESET_EL2)
        if setup is not None:
            setup(context)
        self.run_image(context)
        x = context.x
        assert x[20] in (0, 1)
        return HostRun(x, Abort(x[21], x[22], x[23]) if x[20] else None)

    def run_image(self, context: CpuContext) -> None:
        """Let a Host image have PE 0 until it powers the system off; then the Python Host goes on."""
        machine, pe = self.machine, self.machine.pes[0]
        pe.image = pe.current = context
        try:
            reason = machine.run(pe.cpu.time + _LIMIT)
        finally:
            pe.image = pe.current = None
            machine.stopping = False
            machine.release(context)
        assert reason != "max-ticks"

    # ---- what the test may look at ----

    @contextmanager
    def events(self) -> Iterator[list[Event]]:
        """Events of the machine."""
        seen: list[Event] = []
        unsubscribe = self.stack.events.subscribe(seen.append)
        try:
            yield seen
        finally:
            unsubscribe()

    def chip(self, pa: int, size: int = GRANULE_SIZE) -> bytes:
        """What the memory chips hold: a probe on the board, which no software has."""
        return self.machine.memory.read(pa, size)

    def digest(self, granules: Sequence[int]) -> str:
        """Digest of granules, by the probe."""
        return hashlib.sha256(b"".join(self.chip(pa) for pa in granules)).hexdigest()
