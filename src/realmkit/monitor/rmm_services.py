"""Calls of the RMM that the Monitor serves: the RMM-EL3 interface 0.4 (spec: monitor-rme section 6)."""

from collections.abc import Callable, Sequence
from typing import Final

from realmkit.arch import smccc
from realmkit.arch.pas import GRANULE_SIZE, Pas
from realmkit.machine.platform import AddressRange
from realmkit.machine.port import El3Port
from realmkit.monitor.attestation import CHALLENGE_SIZES, P384_BYTES, PlatformAttestation
from realmkit.monitor.gpt_service import GptService

CURVE_P384: Final = 0
FEATURES_INDEX: Final = 0
FEATURES_0: Final = 0
"""EL3_FEATURES register 0: bit 0 clear, EL3 does not sign realm tokens."""

Results = tuple[int, ...]
"""Status as a signed number, then X1.. as far as the call defines them."""

_BAD_ADDR: Final[Results] = (smccc.E_RMM_BAD_ADDR,)
_INVAL: Final[Results] = (smccc.E_RMM_INVAL,)
_UNK: Final[Results] = (smccc.E_RMM_UNK,)

ARGUMENTS: Final = {
    smccc.GTSI_DELEGATE: ("pa",),
    smccc.GTSI_UNDELEGATE: ("pa",),
    smccc.ATTEST_GET_REALM_KEY: ("buffer", "size", "curve"),
    smccc.ATTEST_GET_PLAT_TOKEN: ("buffer", "size", "challenge_size"),
    smccc.EL3_FEATURES: ("index",),
    smccc.RMM_BOOT_COMPLETE: ("code",),
}
RESULTS: Final = {
    smccc.ATTEST_GET_REALM_KEY: ("size",),
    smccc.ATTEST_GET_PLAT_TOKEN: ("size", "remaining"),
    smccc.EL3_FEATURES: ("value",),
}
STATUS_NAMES: Final = {
    smccc.E_RMM_OK: "E_RMM_OK",
    smccc.E_RMM_UNK: "E_RMM_UNK",
    smccc.E_RMM_BAD_ADDR: "E_RMM_BAD_ADDR",
    smccc.E_RMM_BAD_PAS: "E_RMM_BAD_PAS",
    smccc.E_RMM_NOMEM: "E_RMM_NOMEM",
    smccc.E_RMM_INVAL: "E_RMM_INVAL",
    smccc.E_RMM_AGAIN: "E_RMM_AGAIN",
}


class RmmServices:
    """Serves the RMM: granule transitions, and RAK and platform token through the shared buffer."""

    def __init__(self, gpt: GptService, attestation: PlatformAttestation, shared_buffer: int) -> None:
        self._attestation = attestation
        self._shared = AddressRange(shared_buffer, GRANULE_SIZE)
        self._rest = b""
        """What is left of the platform token that is being delivered."""
        self._calls: dict[int, Callable[[El3Port, Sequence[int]], Results]] = {
            smccc.GTSI_DELEGATE: lambda port, x: (gpt.delegate(port, x[1]),),
            smccc.GTSI_UNDELEGATE: lambda port, x: (gpt.undelegate(port, x[1]),),
            smccc.ATTEST_GET_REALM_KEY: self._get_realm_key,
            smccc.ATTEST_GET_PLAT_TOKEN: self._get_platform_token,
            smccc.EL3_FEATURES: self._features,
        }

    def call(self, port: El3Port, fid: int, x: Sequence[int]) -> Results:
        """Serve a call of Realm EL2."""
        handler = self._calls.get(fid)
        return _UNK if handler is None else handler(port, x)

    def _get_realm_key(self, port: El3Port, x: Sequence[int]) -> Results:
        buffer, size, curve = x[1], x[2], x[3]
        if not self._shared.contains(buffer):
            return _BAD_ADDR
        if size < P384_BYTES or not self._shared.contains(buffer, size):
            return _INVAL
        if curve != CURVE_P384:
            return _INVAL
        port.bus.write(Pas.REALM, buffer, self._attestation.realm_attestation_key())
        return (smccc.E_RMM_OK, P384_BYTES)

    def _get_platform_token(self, port: El3Port, x: Sequence[int]) -> Results:
        """The first call has the challenge in the buffer and gets the first hunk; calls without one get the rest."""
        buffer, size, challenge_size = x[1], x[2], x[3]
        if not self._shared.contains(buffer):
            return _BAD_ADDR
        if size == 0 or not self._shared.contains(buffer, size):
            return _INVAL
        if challenge_size:
            if challenge_size not in CHALLENGE_SIZES or not self._shared.contains(buffer, challenge_size):
                return _INVAL
            challenge = port.bus.read(Pas.REALM, buffer, challenge_size)
            self._rest = self._attestation.platform_token(challenge)
        elif not self._rest:
            return _INVAL
        hunk, self._rest = self._rest[:size], self._rest[size:]
        port.bus.write(Pas.REALM, buffer, hunk)
        return (smccc.E_RMM_OK, len(hunk), len(self._rest))

    def _features(self, port: El3Port, x: Sequence[int]) -> Results:
        return (smccc.E_RMM_OK, FEATURES_0) if x[1] == FEATURES_INDEX else _INVAL
