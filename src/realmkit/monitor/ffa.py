"""FF-A 1.1 as EL3 relays it: direct messages between the Host and one Secure partition (Arm DEN0077A).

There is one partition with one execution context. It is entered at boot and says FFA_MSG_WAIT when it is ready; the
Host's normal world boots then. Without a partition no FF-A function exists.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Final

from realmkit.arch import smccc
from realmkit.arch.pas import SecurityState
from realmkit.arch.smccc import unsigned
from realmkit.machine.port import El3Port

HOST_ID: Final = 0
SPM_ID: Final = 0x8000
PARTITION_ID: Final = 0x8001

NOT_SUPPORTED, INVALID_PARAMETERS, BUSY, DENIED = -1, -2, -4, -6
_MASK32: Final = 0xFFFF_FFFF
_FUNCTION_BITS: Final = 1 << 31
_REQUESTS: Final = (smccc.FFA_MSG_SEND_DIRECT_REQ32, smccc.FFA_MSG_SEND_DIRECT_REQ64)
_RESPONSES: Final = (smccc.FFA_MSG_SEND_DIRECT_RESP32, smccc.FFA_MSG_SEND_DIRECT_RESP64)
_NS: Final = SecurityState.NS
_SECURE: Final = SecurityState.SECURE


class Partition(Enum):
    """What the Secure partition does."""

    ABSENT = "absent"
    BOOTING = "booting"
    WAITING = "waiting"
    BUSY = "busy"


def is_ffa(fid: int) -> bool:
    """Whether a function identifier belongs to FF-A."""
    return fid in smccc.FFA32_RANGE or fid in smccc.FFA64_RANGE


class FirmwareFramework:
    """The Secure Partition Manager dispatcher of EL3."""

    def __init__(self) -> None:
        self.partition = Partition.ABSENT
        self._request: tuple[int, int] | None = None
        """Endpoints (W1) of the direct request that the partition serves, and the PE that waits for the answer."""

    def start(self, port: El3Port) -> None:
        """Enter the partition for the first time, on the PE that boots."""
        self.partition = Partition.BOOTING
        port.resume(_SECURE)

    # ---- Non-secure callers ----

    def host_call(self, port: El3Port, fid: int, x: Sequence[int]) -> None:
        """An FF-A call of the Host; there is a partition."""
        if fid not in _REQUESTS:
            port.complete(_NS, _discovery(fid, x, HOST_ID))
            return
        refusal = self._refuse(x)
        if refusal is not None:
            port.complete(_NS, _error(refusal))
            return
        self.partition = Partition.BUSY
        self._request = (x[1] & _MASK32, port.index)
        port.invoke(_SECURE, _message(fid, x))

    def _refuse(self, x: Sequence[int]) -> int | None:
        """Why a direct request cannot be delivered."""
        if x[1] & _MASK32 != HOST_ID << 16 | PARTITION_ID or x[2] & _FUNCTION_BITS:
            return INVALID_PARAMETERS
        return None if self.partition is Partition.WAITING else BUSY

    # ---- the partition ----

    def partition_call(self, port: El3Port, fid: int, x: Sequence[int]) -> None:
        """An FF-A call of the partition."""
        match fid:
            case smccc.FFA_MSG_WAIT:
                if self.partition is Partition.BOOTING:
                    self.partition = Partition.WAITING
                    port.resume(_NS)
                    return
                results = _error(DENIED)
            case _ if fid in _RESPONSES:
                request = self._request
                if request is None:
                    results = _error(DENIED)
                elif request != (_swapped(x[1] & _MASK32), port.index):
                    results = _error(INVALID_PARAMETERS)
                else:
                    self._request = None
                    self.partition = Partition.WAITING
                    port.complete(_NS, _message(fid, x))
                    return
            case _:
                results = _discovery(fid, x, PARTITION_ID)
        port.complete(_SECURE, results)


def _discovery(fid: int, x: Sequence[int], caller: int) -> tuple[int, ...]:
    """Calls by which either side finds out about the framework, ``caller`` being its endpoint; no others exist."""
    match fid:
        case smccc.FFA_VERSION:
            return _version(x)
        case smccc.FFA_FEATURES:
            return _features(x)
        case smccc.FFA_ID_GET:
            return _success(caller)
        case smccc.FFA_SPM_ID_GET:
            return _success(SPM_ID)
    return _error(NOT_SUPPORTED)


def _swapped(endpoints: int) -> int:
    """Sender and receiver of the answer to a message."""
    return endpoints >> 16 | (endpoints & 0xFFFF) << 16


def _message(fid: int, x: Sequence[int]) -> tuple[int, ...]:
    """X0-X7 of a direct message: endpoints and payload, of 32 bits each in the 32-bit form; W2 is zero."""
    mask = smccc.MASK64 if fid & 1 << 30 else _MASK32
    return (fid, x[1] & _MASK32, 0, *(value & mask for value in x[3:8]))


def _version(x: Sequence[int]) -> tuple[int, ...]:
    """The version that the framework has; -1 for one with bit 31, which no version has."""
    return (smccc.NOT_SUPPORTED if x[1] & 1 << 31 else smccc.FFA_VERSION_1_1, *(0,) * 7)


def _features(x: Sequence[int]) -> tuple[int, ...]:
    return _success(0) if x[1] & _MASK32 in smccc.FFA_NAMES else _error(NOT_SUPPORTED)


def _success(value: int) -> tuple[int, ...]:
    return (smccc.FFA_SUCCESS, 0, value, *(0,) * 5)


def _error(code: int) -> tuple[int, ...]:
    return (smccc.FFA_ERROR, 0, unsigned(code) & _MASK32, *(0,) * 5)
