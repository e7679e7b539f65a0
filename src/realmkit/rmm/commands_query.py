"""RMI_VERSION and RMI_FEATURES (spec: rmi sections 1.4, 1.5)."""

from typing import TYPE_CHECKING, Final

from realmkit.arch.rmi import ABI_VERSION, Rmi, Status, negotiate
from realmkit.machine.port import El2Port
from realmkit.rmm.dispatch import Command, rmi_command
from realmkit.rmm.features import feature_register_0
from realmkit.rmm.state import Refusal

if TYPE_CHECKING:
    from realmkit.rmm.rmm import Rmm

SUPPORTED: Final = (ABI_VERSION,)
"""RMI revisions that this RMM implements."""


def version(rmm: "Rmm", port: El2Port, req: int) -> tuple[int, ...]:
    """RMI_VERSION: outputs are valid on failure too."""
    accepted, lower, higher = negotiate(SUPPORTED, req)
    if not accepted:
        raise Refusal("req_supp", Status.ERROR_INPUT, outputs=(lower, higher))
    return lower, higher


def features(rmm: "Rmm", port: El2Port, index: int) -> tuple[int, ...]:
    """RMI_FEATURES: never fails; a register that does not exist reads as zero."""
    return (feature_register_0(port) if index == 0 else 0,)


COMMANDS: Final[tuple[Command, ...]] = (
    rmi_command(Rmi.VERSION, version),
    rmi_command(Rmi.FEATURES, features),
)
