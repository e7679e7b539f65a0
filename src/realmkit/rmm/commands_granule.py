"""RMI_GRANULE_DELEGATE and RMI_GRANULE_UNDELEGATE (spec: rmi sections 6.2, 6.3)."""

from typing import TYPE_CHECKING, Final

from realmkit.arch.errors import InternalError
from realmkit.arch.rmi import Rmi, Status
from realmkit.arch.smccc import E_RMM_OK, GTSI_DELEGATE, GTSI_UNDELEGATE
from realmkit.machine.port import El2Port
from realmkit.rmm.dispatch import Command, rmi_command
from realmkit.rmm.state import GranuleState, Refusal

if TYPE_CHECKING:
    from realmkit.rmm.rmm import Rmm


def granule_delegate(rmm: "Rmm", port: El2Port, addr: int) -> tuple[int, ...]:
    """RMI_GRANULE_DELEGATE: UNDELEGATED to DELEGATED. The Monitor refuses a granule that is not Non-secure."""
    rmm.granules.require(addr, GranuleState.UNDELEGATED, "gran")
    if port.smc(GTSI_DELEGATE, addr)[0] != E_RMM_OK:
        raise Refusal("gran_gpt", Status.ERROR_INPUT)
    rmm.granules.release(port, addr)
    return ()


def granule_undelegate(rmm: "Rmm", port: El2Port, addr: int) -> tuple[int, ...]:
    """RMI_GRANULE_UNDELEGATE: DELEGATED, which is wiped already, to UNDELEGATED."""
    rmm.granules.require(addr, GranuleState.DELEGATED, "gran")
    if port.smc(GTSI_UNDELEGATE, addr)[0] != E_RMM_OK:
        raise InternalError(f"the Monitor does not take granule {addr:#x} back")
    rmm.granules.forget(port, addr)
    return ()


COMMANDS: Final[tuple[Command, ...]] = (
    rmi_command(Rmi.GRANULE_DELEGATE, granule_delegate),
    rmi_command(Rmi.GRANULE_UNDELEGATE, granule_undelegate),
)
