"""The Monitor: boot, SMC routing and world switch (spec: monitor-rme sections 4 and 5)."""

from collections.abc import Sequence
from enum import Enum
from typing import Final

from realmkit.arch import psci, smccc
from realmkit.arch.events import Call
from realmkit.arch.pas import Pas, SecurityState
from realmkit.arch.smccc import MASK64, SVE_HINT, signed
from realmkit.machine.gpc import GranuleProtection
from realmkit.machine.platform import Platform
from realmkit.machine.port import El2Port, El2Software, El3Port
from realmkit.monitor.attestation import PlatformAttestation
from realmkit.monitor.boot import BootCode, boot_manifest, cold_boot_arguments, warm_boot_arguments
from realmkit.monitor.ffa import FirmwareFramework, Partition, is_ffa
from realmkit.monitor.gpt_service import GptService
from realmkit.monitor.measured_boot import measure_firmware
from realmkit.monitor.psci import HostFirmware
from realmkit.monitor.rmm_services import ARGUMENTS, RESULTS, STATUS_NAMES, RmmServices

_NS: Final = SecurityState.NS
_REALM: Final = SecurityState.REALM
_FID: Final = 0xFFFF_FFFF
_FUNCTION: Final = _FID & ~SVE_HINT
_RMI_FIRST: Final = smccc.RMI_RANGE.start
_RMI_LAST: Final = smccc.RMI_RANGE.stop - 1
_GENERAL: Final = frozenset({smccc.SMCCC_VERSION, smccc.SMCCC_ARCH_FEATURES})
_HOST_NAMES: Final = {
    **psci.NAMES,
    **smccc.FFA_NAMES,
    smccc.SMCCC_VERSION: "SMCCC_VERSION",
    smccc.SMCCC_ARCH_FEATURES: "SMCCC_ARCH_FEATURES",
}


class RealmWorld(Enum):
    """Whether the Realm world can be used."""

    ABSENT = "absent"
    BOOTING = "booting"
    READY = "ready"
    DISABLED = "disabled"
    """The RMM failed to boot on some PE: it is not entered again."""


class Monitor:
    """EL3 software (:class:`realmkit.machine.port.El3Software`)."""

    def __init__(self, platform: Platform, gpc: GranuleProtection, attestation: PlatformAttestation) -> None:
        self._platform = platform
        self._shared_buffer = platform.rmm.base
        self._gpt = GptService(platform, gpc)
        self.attestation = attestation
        self._services = RmmServices(self._gpt, attestation, self._shared_buffer)
        self._host = HostFirmware(platform)
        self._ffa = FirmwareFramework()
        self._rmm: El2Software | None = None
        self._booting: dict[int, BootCode | None] = {}
        """PEs whose RMM has been entered to boot, with the code that it has reported."""
        self._callers: list[Sequence[int] | None] = [None] * len(platform.mpidrs)
        """X0-X7 of the RMI call that each PE's Non-secure world waits for."""
        self.realm_world = RealmWorld.ABSENT

    @property
    def last_unknown_call(self) -> tuple[int, int] | None:
        """Function identifier and PE of the last call of the Host that this firmware does not have."""
        return self._host.last_unknown

    # ---- boot ----

    def boot(self, port: El3Port, rmm: El2Software | None, rmm_port: El2Port | None) -> None:
        """Cold boot of the primary PE: protect memory, measure the firmware, boot the RMM (None: there is none).

        On return the machine enters the Non-secure state. :attr:`realm_world` says whether the Realm world is usable.
        """
        self._gpt.build(port.bus)
        self.attestation.components = measure_firmware()
        self._services = RmmServices(self._gpt, self.attestation, self._shared_buffer)
        self._callers = [None] * len(self._platform.mpidrs)
        self._rmm = rmm
        self.realm_world = RealmWorld.ABSENT
        if rmm is None or rmm_port is None:
            return
        port.bus.write(Pas.REALM, self._shared_buffer, boot_manifest(self._platform, self._shared_buffer))
        arguments = cold_boot_arguments(self._platform, port.index, self._shared_buffer)
        self.realm_world = RealmWorld.BOOTING
        self._boot_rmm(port, rmm, rmm_port, arguments)

    def warm_boot(self, port: El3Port, rmm_port: El2Port) -> None:
        """A further PE leaves reset after CPU_ON: boot the RMM on it unless the Realm world is absent or disabled.

        On return the machine enters the Non-secure state of this PE.
        """
        if self._rmm is not None and self.realm_world is RealmWorld.READY:
            self._boot_rmm(port, self._rmm, rmm_port, warm_boot_arguments(port.index))

    def _boot_rmm(self, port: El3Port, rmm: El2Software, rmm_port: El2Port, arguments: Sequence[int]) -> None:
        self._booting[port.index] = None
        rmm.boot(rmm_port, arguments)
        code = self._booting.pop(port.index)
        if code is not BootCode.SUCCESS:
            self.realm_world = RealmWorld.DISABLED
        elif self.realm_world is RealmWorld.BOOTING:
            self.realm_world = RealmWorld.READY

    # ---- SMCs ----

    def on_smc(self, port: El3Port, state: SecurityState, x: Sequence[int]) -> None:
        """Route an SMC by the state of its caller and its function identifier, W0."""
        fid = x[0] & _FID
        if state is _NS:
            function = fid & _FUNCTION
            if _RMI_FIRST <= function <= _RMI_LAST:
                self._forward(port, fid, x)
            elif self._ffa.partition is not Partition.ABSENT and is_ffa(fid):
                self._relay(port, fid, x)
            else:
                self._serve_host(port, function, x)
        elif state is _REALM:
            if fid == smccc.RMI_REQ_COMPLETE:
                self._complete(port, x)
            else:
                self._serve_rmm(port, fid, x)
        elif is_ffa(fid):
            self._ffa.partition_call(port, fid, x)
        else:
            x0 = self._host.call(port, fid, x) if fid in _GENERAL else smccc.NOT_SUPPORTED
            port.complete(state, (smccc.NOT_SUPPORTED if x0 is None else x0, *x[1:8]))

    def _forward(self, port: El3Port, fid: int, x: Sequence[int]) -> None:
        """An RMI call of the Host goes to the RMM with X0-X7, the SVE hint included."""
        if self.realm_world is not RealmWorld.READY:
            port.complete(_NS, (smccc.NOT_SUPPORTED, *x[1:8]))
            return
        self._callers[port.index] = x
        port.invoke(_REALM, x if x[0] == fid else (fid, *x[1:8]))

    def _complete(self, port: El3Port, x: Sequence[int]) -> None:
        """RMI_REQ_COMPLETE: the RMM's X1-X5 become X0-X4 of the caller, whose X5-X7 are as it left them."""
        caller = self._callers[port.index]
        if caller is None:
            port.complete(_REALM, (smccc.unsigned(smccc.E_RMM_UNK), *x[1:8]))
            return
        self._callers[port.index] = None
        port.complete(_NS, (x[1], x[2], x[3], x[4], x[5], caller[5], caller[6], caller[7]))

    def start_secure_world(self, port: El3Port) -> None:
        """Enter the code of the Secure world for the first time; the Non-secure world follows when it is ready."""
        self._ffa.start(port)

    def _relay(self, port: El3Port, fid: int, x: Sequence[int]) -> None:
        if port.events.active:
            self._report_host_call(port, fid, x, None)
        self._ffa.host_call(port, fid, x)

    def _serve_host(self, port: El3Port, fid: int, x: Sequence[int]) -> None:
        x0 = self._host.call(port, fid, x)
        if port.events.active:
            self._report_host_call(port, fid, x, x0)
        if x0 is not None:
            port.complete(_NS, (x0, *x[1:8]))

    def _serve_rmm(self, port: El3Port, fid: int, x: Sequence[int]) -> None:
        if fid == smccc.RMM_BOOT_COMPLETE and port.index in self._booting:
            self._booting[port.index] = _boot_code(x[1])
            if port.events.detailed:
                self._report_rmm_call(port, fid, x, (smccc.E_RMM_OK,))
            return
        results = self._services.call(port, fid, x)
        if port.events.detailed:
            self._report_rmm_call(port, fid, x, results)
        port.complete(_REALM, (results[0] & MASK64, *results[1:], *x[len(results) : 8]))

    # ---- events ----

    def _report_host_call(self, port: El3Port, fid: int, x: Sequence[int], x0: int | None) -> None:
        value = 0 if x0 is None else x0
        port.events.emit(
            Call(
                port.now(),
                port.index,
                "host-psci",
                _HOST_NAMES.get(fid, f"SMC_{fid:08X}"),
                fid,
                {f"x{n}": x[n] for n in range(1, 4)},
                value,
                "no return" if x0 is None else str(signed(value)),
                {},
            )
        )

    def _report_rmm_call(self, port: El3Port, fid: int, x: Sequence[int], results: tuple[int, ...]) -> None:
        port.events.emit(
            Call(
                port.now(),
                port.index,
                "el3",
                smccc.EL3_NAMES.get(fid, f"SMC_{fid:08X}"),
                fid,
                dict(zip(ARGUMENTS.get(fid, ()), x[1:], strict=False)),
                results[0] & MASK64,
                STATUS_NAMES[results[0]],
                dict(zip(RESULTS.get(fid, ()), results[1:], strict=False)),
            )
        )


def _boot_code(x1: int) -> BootCode:
    """The code that the RMM reports, a signed 32-bit number; codes that are not defined are UNKNOWN."""
    value = signed(x1 << 32) >> 32
    try:
        return BootCode(value)
    except ValueError:
        return BootCode.UNKNOWN
