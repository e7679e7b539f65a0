"""Bus masters other than PEs: a device that reads and writes memory in one physical address space."""

from realmkit.arch.errors import RealmkitError
from realmkit.arch.pas import REACHABLE, Pas
from realmkit.machine.port import Bus


class DmaMaster:
    """A bus master whose accesses carry a fixed PAS and pass the same granule protection check as a PE's.

    ``bus`` is the bus of the security state that the master belongs to.
    """

    __slots__ = ("_bus", "name", "pas")

    def __init__(self, name: str, pas: Pas, bus: Bus) -> None:
        if pas not in REACHABLE[bus.state]:
            raise RealmkitError(f"bus master {name} of the {bus.state.name} state cannot name the {pas.name} PAS")
        self.name = name
        self.pas = pas
        self._bus = bus

    def read(self, pa: int, size: int) -> bytes:
        """Read bytes; raises GranuleProtectionFault or ExternalAbort."""
        return self._bus.read(self.pas, pa, size)

    def write(self, pa: int, data: bytes) -> None:
        """Write bytes; raises GranuleProtectionFault or ExternalAbort and has then changed nothing."""
        self._bus.write(self.pas, pa, data)
