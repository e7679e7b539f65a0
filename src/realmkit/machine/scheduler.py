"""Interleaves the PEs deterministically in one thread.

Each PE has its own virtual time; the one that is furthest behind runs next, for a slice. Python Hosts are coroutines
(greenlets): one runs until it gives up the PE by entering a REC, waiting for an interrupt or using up its slice. The
Host that the user's own thread of control is (the one that calls into the machine first) takes part in the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from greenlet import getcurrent, greenlet

from realmkit.arch.errors import RealmkitError
from realmkit.machine.core import StopKind, timers

if TYPE_CHECKING:
    from realmkit.machine.machine import Machine
    from realmkit.machine.pe import Pe

QUANTUM = 20_000
"""Longest slice, in instructions, while other PEs want to run."""
LONG_QUANTUM = 2_000_000
"""Longest slice while this PE is alone."""
FRUITLESS_EVENTS = 10_000
"""Events of devices and timers in a row that wake no PE, after which none ever will."""


class IdleForeverError(RealmkitError):
    """Every PE waits for an interrupt and nothing is programmed that could raise one."""

    def __init__(self, details: str = "") -> None:
        super().__init__(
            f"idle for ever: every PE waits for an interrupt and no timer or device will raise one{details}"
        )


class Scheduler:
    """Chooses what runs next and for how long."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._loop: greenlet | None = None
        self._horizon = 0

    # ---- called by Python Hosts ----

    def suspend(self, pe: Pe) -> None:
        """Give up the PE until the scheduler resumes this coroutine."""
        pe.host_greenlet = getcurrent()
        if self._is_alone(pe):
            self._run_alone(pe)
            return
        if self._loop is None or self._loop.dead:
            self._loop = greenlet(self._run_for_hosts)
        self._loop.switch()

    def _is_alone(self, pe: Pe) -> bool:
        """Whether this is the primary PE, and no other has power. Without power it does not go on by itself."""
        pes = self._machine.pes
        if pe is not pes[0] or not pe.powered:
            return False
        for other in pes:  # noqa: SIM110 - on the way of every REC entry
            if other.powered and other is not pe:
                return False
        return True

    def _run_alone(self, pe: Pe) -> None:
        """What the loop does until the Host of ``pe`` goes on, while nobody else can want to run.

        Nothing that runs before that gives power to another PE: only a Host does.
        """
        machine = self._machine
        while True:
            if pe.idle:
                self._choose()
            else:
                machine.contended = False
                self._horizon = pe.cpu.time + LONG_QUANTUM
                machine.advance(pe)
            if pe.current is None:
                return
            self._step(pe)

    def give_way(self, pe: Pe) -> None:
        """Let other PEs catch up when this Host has used its slice."""
        if pe.cpu.now() > self._horizon:
            self.suspend(pe)

    def _run_for_hosts(self) -> None:
        while True:
            try:
                pe = self._choose()
            except IdleForeverError as error:
                host = self._machine.pes[0].host_greenlet
                if host is None or host.dead:
                    raise
                host.throw(error)
                continue
            if pe.current is None:
                self._resume_host(pe)
            else:
                self._step(pe)

    def _resume_host(self, pe: Pe) -> None:
        host = pe.host_greenlet
        if host is None or host.dead:
            pe.powered = False
            return
        host.switch()

    # ---- called for machines whose Host is an image ----

    def run(self, max_ticks: int | None) -> None:
        """Run until the machine stops, at most to ``max_ticks`` of virtual time.

        Raises IdleForeverError when nothing can happen any more.
        """
        machine = self._machine
        while not machine.stopping:
            pe = self._choose(max_ticks, stoppable=True)
            if self._machine.stopping:
                return
            if max_ticks is not None and pe.cpu.now() >= max_ticks:
                machine.stop("max-ticks")
                return
            if pe.current is None:
                self._resume_host(pe)
            else:
                self._step(pe, max_ticks)

    # ---- policy ----

    def _choose(self, limit: int | None = None, *, stoppable: bool = False) -> Pe:
        """The PE that is furthest behind; time of idle PEs jumps to their next event.

        At ``limit``, or when the machine has been stopped and ``stoppable``, it is returned whether it is idle or not.
        """
        machine = self._machine
        for _ in range(FRUITLESS_EVENTS):
            best, best_time = self._furthest_behind()
            if best.idle:
                best.cpu.time = max(best.cpu.time, best_time)
            machine.advance(best)
            if not best.idle or (limit is not None and best_time >= limit) or (stoppable and machine.stopping):
                return best
            if machine.wakes(best):
                best.idle = best.parked = False
                return best
        raise IdleForeverError(self._whereabouts())

    def _furthest_behind(self) -> tuple[Pe, int]:
        """The PE whose turn it is, and when; sets how far it may go."""
        machine = self._machine
        best: Pe | None = None
        best_time = 0
        horizon: int | None = None
        for pe in machine.pes:
            if not pe.powered:
                continue
            time = pe.cpu.time if not pe.idle or machine.wakes(pe) else machine.next_event(pe)
            if time is None:
                continue
            if best is None or time < best_time:
                if best is not None and (horizon is None or best_time < horizon):
                    horizon = best_time
                best, best_time = pe, time
            elif horizon is None or time < horizon:
                horizon = time
        if best is None:
            raise IdleForeverError(self._whereabouts())
        machine.contended = horizon is not None
        self._horizon = best_time + LONG_QUANTUM if horizon is None else horizon + QUANTUM
        return best, best_time

    def _whereabouts(self) -> str:
        """PEs that have parked themselves, for the message."""
        parked = [pe for pe in self._machine.pes if pe.powered and pe.idle and pe.parked and pe.current is not None]
        return "".join(f"; PE {pe.index} goes round in circles at {pe.current.pc:#x}" for pe in parked if pe.current)

    def _step(self, pe: Pe, limit: int | None = None) -> None:
        machine = self._machine
        ctx = pe.current
        if ctx is None or pe.idle:
            return
        cpu = pe.cpu
        until = self._horizon
        event = machine.next_event(pe)
        if event is not None and event < until:
            until = event
        if limit is not None and limit < until:
            until = limit
        stop = cpu.run(ctx, pe.world, not pe.has_own_el2(ctx), max(until - cpu.time, 1))
        while stop.kind is StopKind.LEFT and cpu.time < until and not cpu.breaking:
            # The way into a REC and out of it: nothing that was looked at above has changed.
            before, ctx = ctx, pe.current
            if ctx is None or not (pe.powered and timers.are_silent(before) and timers.are_silent(ctx)):
                break
            if machine.stopping:
                break
            stop = cpu.run(ctx, pe.world, not pe.has_own_el2(ctx), until - cpu.time)
        if stop.kind is StopKind.IDLE or stop.kind is StopKind.PARKED:
            pe.idle, pe.parked = True, stop.kind is StopKind.PARKED
        elif stop.kind is StopKind.DEAD:
            machine.stop(stop.reason)
