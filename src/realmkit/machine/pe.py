"""A processing element: which world it is in, what runs there, and the ports that software sees of it.

Control moves between worlds only here, when an SMC or an exception asks for it. The scheduler owns the PEs:
RMI_REC_ENTER changes :attr:`Pe.current` and returns; the Non-secure caller's SMC stays outstanding until the REC exits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from realmkit.arch.errors import InternalError, RealmkitError
from realmkit.arch.events import EventHub, WorldSwitch
from realmkit.arch.pas import SecurityState
from realmkit.arch.time import CHARGE_WORLD_SWITCH
from realmkit.machine.core import Cpu
from realmkit.machine.port import Bus, CpuContext, El2Software, El3Software, ExceptionInfo

if TYPE_CHECKING:
    from greenlet import greenlet

    from realmkit.machine.machine import Machine

NS = SecurityState.NS
SECURE = SecurityState.SECURE
REALM = SecurityState.REALM
_REST = tuple((0,) * (7 - given) for given in range(8))
"""Zeros for the registers of an SMC after those that are given."""


class Pe:
    """One PE: state that outlives a slice."""

    __slots__ = (
        "_events",
        "_machine",
        "_monitor",
        "_realm_el2",
        "_smc_result",
        "cpu",
        "current",
        "guest_exit",
        "host_context",
        "host_greenlet",
        "idle",
        "image",
        "index",
        "monitor_port",
        "ns_port",
        "parked",
        "powered",
        "realm_port",
        "world",
    )

    def __init__(self, machine: Machine, index: int, cpu: Cpu) -> None:
        self._machine = machine
        self._events = machine.events
        self._monitor: El3Software | None = None
        self._realm_el2: El2Software | None = None
        self.index = index
        self.cpu = cpu
        self.world = NS
        self.powered = index == 0
        self.idle = False
        """The code that runs here waits for an interrupt (WFI)."""
        self.parked = False
        """While idle: only an interrupt that is taken ends the wait, not one that is masked."""
        self.current: CpuContext | None = None
        """Context that executes when the PE gets time; None while Python software at NS-EL2 has the PE."""
        self.image: CpuContext | None = None
        """Context of the Host image on this PE, when the Host is an image."""
        self.host_context = CpuContext()
        """EL2 timer and other NS-EL2 registers of a Python Host."""
        self.host_greenlet: greenlet | None = None
        """Coroutine of a Python Host."""
        self.guest_exit: ExceptionInfo | None = None
        """Exception that ended the run of a plain VM that a Python Host entered."""
        self._smc_result: Sequence[int] | None = None
        self.ns_port = NonSecurePort(machine, self)
        self.realm_port = RealmPort(machine, self)
        self.monitor_port = MonitorPort(machine, self)

    def install(self, monitor: El3Software, realm_el2: El2Software) -> None:
        """What runs at EL3 and at R-EL2."""
        self._monitor, self._realm_el2 = monitor, realm_el2

    def boot(self, firmware: Callable[[], None]) -> None:
        """Let ``firmware`` boot the Realm world on this PE; it ends in the Non-secure state."""
        self.world = REALM
        firmware()
        self.world = NS

    # ---- SMCs ----

    def smc(self, state: SecurityState, x: Sequence[int]) -> Sequence[int] | None:
        """SMC from EL2 (or Non-secure EL1) of ``state``: the results, or None while a REC runs."""
        if self._monitor is None:
            raise RealmkitError("no Monitor is installed: use realmkit.stack to put a machine together")
        outer = self._smc_result
        self._smc_result = None
        self._monitor.on_smc(self.monitor_port, state, x)
        result = self._smc_result
        if state is not NS:
            self._smc_result = outer if self.world is state else result
        return result

    def take_result(self) -> Sequence[int] | None:
        """Result of the outstanding Non-secure SMC, once."""
        result, self._smc_result = self._smc_result, None
        return result

    def invoke(self, state: SecurityState, x: Sequence[int]) -> None:
        """World switch to EL2 of ``state`` at its SMC entry: to the RMM, or to the code of the Secure world."""
        if state is SECURE:
            self.resume(SECURE, x)
            return
        if state is not REALM or self._realm_el2 is None:
            raise InternalError(f"no software at EL2 of the {state.name} state")
        self._switch(REALM)
        self._realm_el2.on_smc(self.realm_port, x)

    def complete(self, state: SecurityState, x: Sequence[int]) -> None:
        """Give results to the software of ``state`` that executed the SMC."""
        if state is not self.world:
            self._switch(state)
        self._smc_result = x
        if state is NS:
            self.current = image = self.image
            if image is not None:
                image.x[0:8] = x[0:8]
        elif state is SECURE:
            self.resume(SECURE, x)

    def resume(self, state: SecurityState, x: Sequence[int] | None = None) -> None:
        """Switch to code of the Non-secure or Secure world, with X0-X7 if given; no SMC is completed by it."""
        self._switch(state)
        ctx = self.image if state is NS else self._machine.secure
        if ctx is None:
            raise InternalError(f"no code at EL2 of the {state.name} state")
        if x is not None:
            ctx.x[0:8] = x[0:8]
        self.current = ctx

    def _switch(self, state: SecurityState) -> None:
        if state is not self.world:
            self.cpu.time += CHARGE_WORLD_SWITCH
            if self._events.detailed:
                self._events.emit(WorldSwitch(self.cpu.time, self.index, self.world.name, state.name))
            if state is SECURE or self.world is SECURE:
                self._machine.board.interfaces[self.index].secure = state is SECURE
            self.world = state

    # ---- exceptions ----

    def trap(self, ctx: CpuContext, exc: ExceptionInfo, target_el: int) -> bool:
        """An exception for Python software: whether ``ctx`` continues on this PE at once."""
        if target_el == 3:
            if self.smc(self.world, ctx.x[0:8]) is None:
                return False
            if self.world is NS and ctx is self.image:
                self._smc_result = None
                return self.powered and not self._machine.stopping
            return self.current is ctx
        if self.world is REALM:
            self._give_up()
            if self._realm_el2 is None:
                raise InternalError("a context runs in the Realm state, where no software is installed at EL2")
            self._realm_el2.on_exception(self.realm_port, ctx, exc)
            return self.current is ctx and self.world is REALM
        self.guest_exit = exc
        self.current = None
        return False

    def _give_up(self) -> None:
        self.current = None

    def has_own_el2(self, ctx: CpuContext) -> bool:
        """Whether EL2 of a context is code of its own: the Host image, or the Secure world's."""
        return ctx is self.image or ctx is self._machine.secure

    def enter(self, state: SecurityState, ctx: CpuContext) -> None:
        """ERET from EL2 of ``state`` into a context."""
        if state is not self.world:
            raise InternalError(f"{state.name} EL2 entered a context while the PE is in {self.world.name}")
        self.current = ctx
        self.idle = False


class _Port:
    """What every port offers."""

    __slots__ = ("_machine", "_pe", "bus", "charge", "events", "index", "now", "refusal", "state")

    def __init__(self, machine: Machine, pe: Pe, state: SecurityState) -> None:
        self._machine = machine
        self._pe = pe
        self.index = pe.index
        self.state = state
        self.bus: Bus = machine.buses[state]
        self.events: EventHub = machine.events
        self.refusal: str | None = None
        self.now = pe.cpu.now
        self.charge = pe.cpu.charge

    def id_register(self, name: str) -> int:
        """An identification register."""
        try:
            return self._machine.id_registers[name]
        except KeyError:
            raise RealmkitError(f"no identification register is called {name!r}") from None

    def tlbi_vmid(self, vmid: int) -> None:
        """TLBI VMALLS12E1IS."""
        self._machine.tlbi_vmid(self.state, vmid)

    def tlbi_ipa(self, vmid: int, ipa: int, size: int) -> None:
        """TLBI IPAS2E1IS over a range."""
        self._machine.tlbi_ipa(self.state, vmid, ipa, size)

    def release(self, ctx: CpuContext) -> None:
        """The context will not be entered again."""
        self._machine.release(ctx)

    def interrupt_pending(self) -> bool:
        """Whether a physical interrupt is pending on this PE."""
        return self._machine.interrupt_pending(self._pe)


class RealmPort(_Port):
    """A PE as the RMM sees it (:class:`realmkit.machine.port.El2Port`)."""

    __slots__ = ()

    def __init__(self, machine: Machine, pe: Pe) -> None:
        super().__init__(machine, pe, REALM)

    def smc(self, fid: int, *args: int) -> tuple[int, ...]:
        """Execute SMC: the results, or nothing when the PE has gone to another world."""
        pe = self._pe
        result = pe.smc(REALM, (fid, *args, *_REST[len(args)]))
        if pe.world is not REALM or result is None:
            return ()
        return tuple(result)

    def enter(self, ctx: CpuContext) -> None:
        """ERET into a context."""
        self._pe.enter(REALM, ctx)

    def read(self, name: str) -> int:
        """Read a system register of this state."""
        raise InternalError(f"the RMM read {name}, which it keeps in its contexts")

    def write(self, name: str, value: int) -> None:
        """Write a system register of this state."""
        raise InternalError(f"the RMM wrote {name}, which it keeps in its contexts")

    def wait_for_interrupt(self) -> None:
        """WFI."""
        raise InternalError("the RMM does not wait for interrupts")


class NonSecurePort(_Port):
    """A PE as a Python Host at NS-EL2 sees it (:class:`realmkit.machine.port.El2Port`)."""

    __slots__ = ()

    def __init__(self, machine: Machine, pe: Pe) -> None:
        super().__init__(machine, pe, NS)

    def smc(self, fid: int, *args: int) -> tuple[int, ...]:
        """Execute SMC; suspends the Host while a REC runs."""
        if len(args) > 7:
            raise RealmkitError(f"an SMC passes at most X1-X7, got {len(args)} arguments")
        pe, machine = self._pe, self._machine
        pe.cpu.time += machine.smc_charge
        realm_port = pe.realm_port
        realm_port.refusal = None
        result = pe.smc(NS, (fid, *args, *_REST[len(args)]))
        while result is None:
            machine.scheduler.suspend(pe)
            result = pe.take_result()
            if result is None and machine.stopping:
                raise RealmkitError(f"the call does not return: the machine has stopped ({machine.stop_reason})")
        self.refusal = realm_port.refusal
        if machine.contended:
            machine.scheduler.give_way(pe)
        return tuple(result)

    def enter(self, ctx: CpuContext) -> None:
        """Run a plain VM's context until an exception reaches NS-EL2, which ``last_exit`` then tells."""
        pe = self._pe
        pe.guest_exit = None
        pe.enter(NS, ctx)
        while pe.guest_exit is None:
            self._machine.scheduler.suspend(pe)

    @property
    def last_exit(self) -> ExceptionInfo:
        """The exception that ended the last :meth:`enter`."""
        if self._pe.guest_exit is None:
            raise RealmkitError("no context has been entered on this port")
        return self._pe.guest_exit

    def read(self, name: str) -> int:
        """Read a system register of this state."""
        return self._machine.host_register_read(self._pe, name)

    def write(self, name: str, value: int) -> None:
        """Write a system register of this state."""
        self._machine.host_register_write(self._pe, name, value)

    def wait_for_interrupt(self) -> None:
        """WFI."""
        pe = self._pe
        pe.idle = not self._machine.interrupt_pending(pe)
        while pe.idle:
            self._machine.scheduler.suspend(pe)


class MonitorPort:
    """A PE as the Monitor sees it (:class:`realmkit.machine.port.El3Port`)."""

    __slots__ = (
        "_machine",
        "_pe",
        "bus",
        "charge",
        "complete",
        "events",
        "index",
        "invoke",
        "now",
        "resume",
        "tlbi_pa",
    )

    def __init__(self, machine: Machine, pe: Pe) -> None:
        self._machine = machine
        self._pe = pe
        self.index = pe.index
        self.bus: Bus = machine.buses[SecurityState.ROOT]
        self.events = machine.events
        self.invoke = pe.invoke
        self.resume = pe.resume
        self.complete = pe.complete
        self.now = pe.cpu.now
        self.charge = pe.cpu.charge
        self.tlbi_pa = machine.gpc.invalidate

    def cpu_on(self, target: int, entry: int, context_id: int) -> None:
        """Power up another PE."""
        self._machine.power_on(target, entry, context_id, self._pe.cpu.now())

    def cpu_off(self) -> None:
        """Power down this PE."""
        self._pe.powered = False
        self._pe.current = None

    def cpu_is_on(self, target: int) -> bool:
        """Whether a PE is powered."""
        return self._machine.pes[target].powered

    def system_off(self, reason: str) -> None:
        """End the run."""
        self._machine.stop(reason)

    def system_reset(self) -> None:
        """Reset the machine."""
        self._machine.request_reset()
