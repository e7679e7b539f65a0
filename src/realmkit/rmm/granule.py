"""The granule tracker: which granule is in which state (RMM 1.0-rel0 A2.2; spec: rmi section 2).

Wiping happens here and nowhere else: **a granule is filled with zeros when it enters DELEGATED**, from whatever
state. So nothing that a granule held in one use can be seen in the next, a granule that goes back to the Host is clean
without further work, and every command that takes a DELEGATED granule finds zeros in it.
"""

from collections.abc import Sequence
from typing import Final

from realmkit.arch.events import GranuleTransition
from realmkit.arch.pas import GRANULE_MASK, GRANULE_SIZE, Pas
from realmkit.arch.rmi import Status
from realmkit.arch.time import CHARGE_PAGE
from realmkit.machine.port import El2Port, ExternalAbort, GranuleProtectionFault
from realmkit.rmm.state import GranuleState, Refusal

_UNDELEGATED: Final = GranuleState.UNDELEGATED
_DELEGATED: Final = GranuleState.DELEGATED
_REALM: Final = Pas.REALM
_NS: Final = Pas.NS


class GranuleTracker:
    """States of all delegable granules; one that is not listed is UNDELEGATED, so cost follows use."""

    __slots__ = ("_delegable", "_states")

    def __init__(self) -> None:
        self._states: dict[int, GranuleState] = {}
        self._delegable: tuple[range, ...] = ()

    def set_delegable(self, banks: Sequence[tuple[int, int]]) -> None:
        """Make the given (base, size) ranges of memory delegable: the DRAM banks of the boot manifest."""
        self._delegable = tuple(range(base, base + size) for base, size in banks)

    def is_delegable(self, pa: int) -> bool:
        """PaIsDelegable: a property of the address, whatever the state of its granule."""
        for bank in self._delegable:  # noqa: SIM110 - a generator would cost as much as the rest of DELEGATE's checks
            if pa in bank:
                return True
        return False

    def state(self, pa: int) -> GranuleState:
        """State of the granule at ``pa`` (granule-aligned)."""
        return self._states.get(pa, _UNDELEGATED)

    def in_state(self, state: GranuleState) -> list[int]:
        """Addresses of all granules in ``state`` (not UNDELEGATED), ascending."""
        return sorted(pa for pa, held in self._states.items() if held is state)

    def require(self, pa: int, state: GranuleState, name: str, state_label: str | None = None) -> None:
        """The conditions ``<name>_align``, ``<name>_bound`` and ``<name>_state``, all RMI_ERROR_INPUT.

        ``state_label`` replaces the last label where the specification calls it differently (``rec_gran_state``).
        """
        held = self._states.get(pa)
        if held is not state:  # a listed granule is aligned and delegable
            if held is None:
                self._require_address(pa, name)
            if held is not None or state is not _UNDELEGATED:
                raise Refusal(state_label or f"{name}_state", Status.ERROR_INPUT)

    def require_ns(self, pa: int, name: str) -> None:
        """The conditions ``<name>_align``, ``<name>_bound`` and ``<name>_pas`` of a Non-secure buffer.

        This is as much as the RMM knows by itself; the granule protection check has the last word in :meth:`read_ns`.
        """
        if pa in self._states:
            raise Refusal(f"{name}_pas", Status.ERROR_INPUT)
        if pa & GRANULE_MASK or not self.is_delegable(pa):
            self._require_address(pa, name)

    def read_ns(self, port: El2Port, pa: int, name: str, size: int = GRANULE_SIZE) -> bytes:
        """Copy a Non-secure buffer, once, so that the Host cannot change it between check and use.

        A granule protection fault is the condition ``<name>_pas``, RMI_ERROR_INPUT.
        """
        try:
            return port.bus.read(_NS, pa, size)
        except (GranuleProtectionFault, ExternalAbort):
            raise Refusal(f"{name}_pas", Status.ERROR_INPUT) from None

    def take(self, port: El2Port, pa: int, state: GranuleState) -> None:
        """DELEGATED to ``state``: the granule becomes part of an object."""
        self._states[pa] = state
        if port.events.detailed:
            self._report(port, pa, _DELEGATED, state)

    def release(self, port: El2Port, pa: int) -> None:
        """Any state of an object to DELEGATED: the granule is wiped."""
        port.bus.zero(_REALM, pa, GRANULE_SIZE)
        port.charge(CHARGE_PAGE)
        before = self._states.get(pa, _UNDELEGATED)
        self._states[pa] = _DELEGATED
        if port.events.detailed:
            self._report(port, pa, before, _DELEGATED)

    def forget(self, port: El2Port, pa: int) -> None:
        """DELEGATED to UNDELEGATED: the granule is the Host's again."""
        del self._states[pa]
        if port.events.detailed:
            self._report(port, pa, _DELEGATED, _UNDELEGATED)

    def _require_address(self, pa: int, name: str) -> None:
        if pa & GRANULE_MASK:
            raise Refusal(f"{name}_align", Status.ERROR_INPUT)
        if not self.is_delegable(pa):
            raise Refusal(f"{name}_bound", Status.ERROR_INPUT)

    @staticmethod
    def _report(port: El2Port, pa: int, before: GranuleState, after: GranuleState) -> None:
        port.events.emit(GranuleTransition(port.now(), port.index, pa, before.value, after.value))
