"""PSCI 1.1 and the SMCCC's own calls for the Host (Arm DEN0022, DEN0028; spec: host-platform)."""

from collections.abc import Callable, Sequence
from typing import Final

from realmkit.arch import psci, smccc
from realmkit.arch.psci import PsciStatus
from realmkit.machine.platform import Platform
from realmkit.machine.port import El3Port

MASK32: Final = 0xFFFF_FFFF
SMC64: Final = 1 << 30
TOS_NOT_PRESENT: Final = 2
"""MIGRATE_INFO_TYPE: no Trusted OS that would have to migrate."""
AFFINITY_ON, AFFINITY_OFF = 0, 1
POWER_STATE_BITS: Final = 0x0301_FFFF
"""StateID 15:0, StateType 16 and PowerLevel 25:24 of the original power_state format."""
POWER_STATE_POWERDOWN: Final = 1 << 16

_Call = Callable[[El3Port, Sequence[int]], int | None]


class HostFirmware:
    """Calls of the Non-secure world that the Monitor serves itself. Only X0 is a result.

    A handler returns X0, or None when the call does not return to its caller.
    """

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self.last_unknown: tuple[int, int] | None = None
        """Function and PE of the last call that nobody serves: it names itself when the run ends badly."""
        self._entries = tuple((r.base, r.end) for r in platform.nonsecure_ram())
        self._calls: dict[int, _Call] = {
            smccc.SMCCC_VERSION: lambda port, x: smccc.VERSION_1_2,
            smccc.SMCCC_ARCH_FEATURES: self._arch_features,
            psci.VERSION: lambda port, x: psci.VERSION_1_1,
            psci.CPU_SUSPEND_32: self._cpu_suspend,
            psci.CPU_SUSPEND: self._cpu_suspend,
            psci.CPU_OFF: self._cpu_off,
            psci.CPU_ON_32: self._cpu_on,
            psci.CPU_ON: self._cpu_on,
            psci.AFFINITY_INFO_32: self._affinity_info,
            psci.AFFINITY_INFO: self._affinity_info,
            psci.MIGRATE_INFO_TYPE: lambda port, x: TOS_NOT_PRESENT,
            psci.SYSTEM_OFF: self._system_off,
            psci.SYSTEM_RESET: self._system_reset,
            psci.FEATURES: self._features,
        }

    def call(self, port: El3Port, fid: int, x: Sequence[int]) -> int | None:
        """Serve a call: X0 (-1 for an unknown function), or None when it does not return."""
        handler = self._calls.get(fid)
        if handler is None:
            self.last_unknown = (fid, port.index)
            return smccc.NOT_SUPPORTED
        if not fid & SMC64:
            x = [value & MASK32 for value in x]
        return handler(port, x)

    def _arch_features(self, port: El3Port, x: Sequence[int]) -> int:
        known = (smccc.SMCCC_VERSION, smccc.SMCCC_ARCH_FEATURES)
        return PsciStatus.SUCCESS.x0 if x[1] in known else smccc.NOT_SUPPORTED

    def _features(self, port: El3Port, x: Sequence[int]) -> int:
        """Feature flags are zero for all: original power_state format, no OS-initiated mode."""
        fid = x[1] & MASK32
        served = fid in self._calls and fid != smccc.SMCCC_ARCH_FEATURES
        return PsciStatus.SUCCESS.x0 if served else PsciStatus.NOT_SUPPORTED.x0

    def _cpu_on(self, port: El3Port, x: Sequence[int]) -> int:
        target = self._platform.pe_of(x[1])
        if target is None:
            return PsciStatus.INVALID_PARAMETERS.x0
        if not self._is_entry(x[2]):
            return PsciStatus.INVALID_ADDRESS.x0
        if port.cpu_is_on(target):
            return PsciStatus.ALREADY_ON.x0
        port.cpu_on(target, x[2], x[3])
        return PsciStatus.SUCCESS.x0

    def _cpu_off(self, port: El3Port, x: Sequence[int]) -> None:
        port.cpu_off()

    def _cpu_suspend(self, port: El3Port, x: Sequence[int]) -> int:
        """Wakes up at once, which PSCI allows for standby and for a power-down that a wake-up event overtakes."""
        if x[1] & ~POWER_STATE_BITS:
            return PsciStatus.INVALID_PARAMETERS.x0
        if x[1] & POWER_STATE_POWERDOWN and not self._is_entry(x[2]):
            return PsciStatus.INVALID_ADDRESS.x0
        return PsciStatus.SUCCESS.x0

    def _affinity_info(self, port: El3Port, x: Sequence[int]) -> int:
        target = self._platform.pe_of(x[1])
        if target is None or x[2] != 0:
            return PsciStatus.INVALID_PARAMETERS.x0
        return AFFINITY_ON if port.cpu_is_on(target) else AFFINITY_OFF

    def _system_off(self, port: El3Port, x: Sequence[int]) -> None:
        port.system_off("PSCI SYSTEM_OFF")

    def _system_reset(self, port: El3Port, x: Sequence[int]) -> None:
        port.system_reset()

    def _is_entry(self, address: int) -> bool:
        """Whether AArch64 code can start there: aligned, in Non-secure memory."""
        return not address & 3 and any(start <= address < end for start, end in self._entries)
