"""A PE without a CPU: the machine's side of the Monitor, and an RMM that does what a test tells it to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from realmkit.arch import smccc
from realmkit.arch.events import EventHub
from realmkit.arch.pas import SecurityState
from realmkit.machine import platforms
from realmkit.machine.bus import CheckedBus, Interconnect
from realmkit.machine.gpc import GranuleProtection
from realmkit.machine.memory import PhysicalMemory
from realmkit.machine.platform import Platform
from realmkit.machine.port import CpuContext, El2Port, ExceptionInfo
from realmkit.monitor.attestation import PlatformAttestation, PlatformKeys
from realmkit.monitor.monitor import Monitor

NS = SecurityState.NS
REALM = SecurityState.REALM
SECURE = SecurityState.SECURE


class FakePort:
    """El3Port of one PE of a :class:`Board`."""

    def __init__(self, board: "Board", index: int) -> None:
        self._board = board
        self.index = index
        self.bus: CheckedBus = board.root
        self.events = board.events
        self.completed: list[tuple[SecurityState, list[int]]] = []

    def now(self) -> int:
        return 0

    def charge(self, ticks: int) -> None:
        raise AssertionError("the Monitor charges nothing itself")

    def resume(self, state: SecurityState, x: Sequence[int] | None = None) -> None:
        raise AssertionError("no code of another state runs here")

    def invoke(self, state: SecurityState, x: Sequence[int]) -> None:
        assert state is REALM
        self._board.rmm.on_smc(self._board.el2(self.index), x)

    def complete(self, state: SecurityState, x: Sequence[int]) -> None:
        assert len(x) == 8
        self.completed.append((state, list(x)))

    def tlbi_pa(self, pa: int, size: int) -> None:
        self._board.invalidated.append((pa, size))
        self._board.gpc.invalidate(pa, size)

    def cpu_on(self, target: int, entry: int, context_id: int) -> None:
        self._board.powered.add(target)
        self._board.started.append((target, entry, context_id))
        self._board.monitor.warm_boot(self._board.ports[target], self._board.el2(target))

    def cpu_off(self) -> None:
        self._board.powered.discard(self.index)

    def cpu_is_on(self, target: int) -> bool:
        return target in self._board.powered

    def system_off(self, reason: str) -> None:
        self._board.ended = reason

    def system_reset(self) -> None:
        self._board.ended = "reset"


class FakeEl2Port:
    """The part of El2Port that an RMM needs to talk to EL3."""

    def __init__(self, board: "Board", index: int) -> None:
        self._board = board
        self.index = index
        self.bus = board.realm

    def smc(self, fid: int, *args: int) -> tuple[int, ...]:
        port = self._board.ports[self.index]
        before = len(port.completed)
        self._board.monitor.on_smc(port, REALM, (fid, *args, *(0,) * (7 - len(args))))
        if len(port.completed) == before or port.completed[-1][0] is not REALM:
            return ()
        return tuple(port.completed.pop()[1])


@dataclass
class FakeRmm:
    """Boots with ``boot_codes`` (by PE, 0 if absent, None: never reports) and answers RMI calls with ``answer``."""

    boot_codes: dict[int, int | None] = field(default_factory=dict)
    boots: list[tuple[int, ...]] = field(default_factory=list)
    calls: list[list[int]] = field(default_factory=list)
    answer: Callable[[El2Port, Sequence[int]], tuple[int, ...]] = lambda port, x: (0, 1, 2, 3, 4)

    def boot(self, port: El2Port, x: Sequence[int]) -> None:
        self.boots.append(tuple(x))
        code = self.boot_codes.get(port.index, 0)
        if code is not None:
            assert port.smc(smccc.RMM_BOOT_COMPLETE, code & smccc.MASK64) == ()

    def on_smc(self, port: El2Port, x: Sequence[int]) -> None:
        self.calls.append(list(x))
        port.smc(smccc.RMI_REQ_COMPLETE, *self.answer(port, x))

    def on_exception(self, port: El2Port, ctx: CpuContext, exc: ExceptionInfo) -> None:
        raise AssertionError("no code runs here")


class Board:
    """A machine of memory, granule protection and a Monitor."""

    def __init__(self, platform: Platform | None = None, rmm: FakeRmm | None = None, seed: int = 1) -> None:
        self.platform = platforms.fvp() if platform is None else platform
        self.memory = PhysicalMemory(self.platform.ram())
        self.gpc = GranuleProtection(self.memory)
        interconnect = Interconnect(self.memory, self.gpc)
        self.root = interconnect.bus(SecurityState.ROOT)
        self.realm = interconnect.bus(REALM)
        self.ns = interconnect.bus(NS)
        self.secure = interconnect.bus(SECURE)
        self.events = EventHub()
        self.invalidated: list[tuple[int, int]] = []
        self.powered = {0}
        self.started: list[tuple[int, int, int]] = []
        self.ended: str | None = None
        self.rmm = FakeRmm() if rmm is None else rmm
        self.attestation = PlatformAttestation(
            PlatformKeys.from_seed(seed), implementation_id=bytes(range(32)), config=b"config"
        )
        self.monitor = Monitor(self.platform, self.gpc, self.attestation)
        self.ports = [FakePort(self, index) for index in range(len(self.platform.mpidrs))]

    def el2(self, index: int) -> El2Port:
        return cast(El2Port, FakeEl2Port(self, index))

    def boot(self) -> "Board":
        self.monitor.boot(self.ports[0], self.rmm, self.el2(0))
        return self

    def host_smc(self, fid: int, *args: int, pe: int = 0) -> list[int] | None:
        """SMC of the Host: X0-X7, or None when it does not return."""
        port = self.ports[pe]
        port.completed.clear()
        self.monitor.on_smc(port, NS, (fid, *args, *(0,) * (7 - len(args))))
        if not port.completed:
            return None
        state, x = port.completed.pop()
        assert state is NS
        return x

    def rmm_smc(self, fid: int, *args: int) -> tuple[int, tuple[int, ...]]:
        """SMC of the RMM: signed status and X1-X7."""
        results = self.el2(0).smc(fid, *args)
        return smccc.signed(results[0]), results[1:]
