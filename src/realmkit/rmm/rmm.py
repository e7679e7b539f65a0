"""The Realm Management Monitor: its state, and its entry points at R-EL2."""

from collections.abc import Mapping, Sequence
from typing import Any

from realmkit.arch.errors import InternalError
from realmkit.machine.port import El2Port
from realmkit.rmm.dispatch import Command, dispatch
from realmkit.rmm.execution.boot import boot
from realmkit.rmm.execution.exceptions import on_exception
from realmkit.rmm.granule import GranuleTracker
from realmkit.rmm.state import GranuleState, Realm, RealmAttestation, Rec
from realmkit.rmm.table import RMI_1_0


class Rmm:
    """Software at R-EL2 of all PEs (:class:`realmkit.machine.port.El2Software`).

    Commands and the handlers of a Realm's exceptions are functions over this state.
    """

    __slots__ = (
        "attestation",
        "commands",
        "detail",
        "granules",
        "live_entries",
        "max_cpus",
        "realms",
        "recs",
        "running",
        "vmids",
    )

    def __init__(self, commands: Mapping[int, Command] = RMI_1_0) -> None:
        self.commands: dict[int, Command] = dict(commands)
        self.max_cpus = 0
        """PEs of the platform; 0 until the cold boot has succeeded."""
        self.granules = GranuleTracker()
        self.realms: dict[int, Realm] = {}
        """By RD; a granule is in state RD exactly when it is listed here."""
        self.recs: dict[int, Rec] = {}
        """By REC granule; a granule is in state REC exactly when it is listed here."""
        self.vmids: set[int] = set()
        """VMIDs of existing Realms."""
        self.live_entries: dict[int, int] = {}
        """By RTT granule: its number of ASSIGNED and TABLE entries. Not zero means that the RTT is live."""
        self.running: dict[int, Rec] = {}
        """By PE index: the REC that RMI_REC_ENTER runs there."""
        self.attestation: RealmAttestation | None = None
        """Set at boot; None if the Monitor gave no key or no platform token."""
        self.detail: dict[str, Any] = {}
        """Decoded structures and digests of the call in progress, for its event; filled only if events are active."""

    def boot(self, port: El2Port, x: Sequence[int]) -> None:
        """A PE leaves reset (:meth:`realmkit.machine.port.El2Software.boot`)."""
        boot(self, port, x)

    on_exception = on_exception
    """An exception of the REC that runs on this PE (:meth:`realmkit.machine.port.El2Software.on_exception`)."""

    on_smc = dispatch
    """An RMI call of the Host, from EL3 (:meth:`realmkit.machine.port.El2Software.on_smc`)."""

    def require_realm(self, rd: int) -> Realm:
        """The Realm of an RD, by the conditions ``rd_align``, ``rd_bound`` and ``rd_state`` (RMI_ERROR_INPUT)."""
        realm = self.realms.get(rd)
        if realm is None:
            self.granules.require(rd, GranuleState.RD, "rd")
            raise InternalError(f"granule {rd:#x} is an RD without a Realm")
        return realm
