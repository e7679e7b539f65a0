"""A typed client of the Realm Management Interface (RMM 1.0-rel0 B4; spec: rmi).

One method per command under its specification name. A refusal raises :class:`RmiError`, whose text names the command,
its arguments, the status and the condition that failed; :meth:`RmiClient.call` returns the status for callers that
expect refusals.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from realmkit.arch.errors import RealmkitError
from realmkit.arch.rmi import INPUTS, ReturnCode, Rmi, Status
from realmkit.arch.smccc import unsigned
from realmkit.machine.port import El2Port


@dataclass(eq=False)
class RmiError(RealmkitError):
    """A refused RMI command."""

    command: Rmi
    arguments: tuple[int, ...]
    code: ReturnCode | None
    condition: str | None

    def __str__(self) -> str:
        named = ", ".join(f"{n}={v:#x}" for n, v in zip(INPUTS[self.command], self.arguments, strict=True))
        status = "not supported by the RMM" if self.code is None else str(self.code)
        why = f" (condition {self.condition})" if self.condition else ""
        return f"RMI_{self.command.name}({named}) was refused: {status}{why}"


class RmiResult(NamedTuple):
    """Registers of a completed command; ``code`` is None when the function is not supported."""

    code: ReturnCode | None
    x1: int
    x2: int
    x3: int
    x4: int

    @property
    def success(self) -> bool:
        """RMI_SUCCESS."""
        return self.code is not None and self.code.status is Status.SUCCESS

    def rtt_level(self) -> int | None:
        """Level of an RMI_ERROR_RTT result, else None."""
        if self.code is not None and self.code.status is Status.ERROR_RTT:
            return self.code.index
        return None


_OK = ReturnCode(Status.SUCCESS, 0)


def _result(x: Sequence[int]) -> RmiResult:
    """The registers of a command that was not successful."""
    try:
        code = ReturnCode.unpack(x[0])
    except ValueError:
        code = None
    return RmiResult(code, x[1], x[2], x[3], x[4])


class RmiClient:
    """RMI of one PE."""

    def __init__(self, port: El2Port) -> None:
        self.port = port
        self._smc = port.smc

    def call(self, command: Rmi, *arguments: int) -> RmiResult:
        """Execute a command whatever its result."""
        x = self._smc(command, *arguments)
        return _result(x) if x[0] else RmiResult(_OK, x[1], x[2], x[3], x[4])

    def error(self, command: Rmi, arguments: tuple[int, ...], result: RmiResult) -> RmiError:
        """The exception for a refusal that nobody expected."""
        return RmiError(command, arguments, result.code, self.port.refusal)

    def _do(self, command: Rmi, *arguments: int) -> RmiResult:
        result = self.call(command, *arguments)
        if not result.success:
            raise self.error(command, arguments, result)
        return result

    def _plain(self, command: Rmi, *arguments: int) -> None:
        """A command without outputs that nobody expects to be refused."""
        x = self._smc(command, *arguments)
        if x[0] and not (result := _result(x)).success:
            raise self.error(command, arguments, result)

    def version(self, requested: int) -> tuple[int, int]:
        """RMI_VERSION: (lower, higher) supported revision."""
        result = self._do(Rmi.VERSION, requested)
        return result.x1, result.x2

    def features(self, index: int = 0) -> int:
        """RMI_FEATURES."""
        return self._do(Rmi.FEATURES, index).x1

    def granule_delegate(self, addr: int) -> None:
        """RMI_GRANULE_DELEGATE."""
        self._plain(Rmi.GRANULE_DELEGATE, addr)

    def granule_undelegate(self, addr: int) -> None:
        """RMI_GRANULE_UNDELEGATE."""
        self._plain(Rmi.GRANULE_UNDELEGATE, addr)

    def realm_create(self, rd: int, params_ptr: int) -> None:
        """RMI_REALM_CREATE."""
        self._do(Rmi.REALM_CREATE, rd, params_ptr)

    def realm_activate(self, rd: int) -> None:
        """RMI_REALM_ACTIVATE."""
        self._do(Rmi.REALM_ACTIVATE, rd)

    def realm_destroy(self, rd: int) -> None:
        """RMI_REALM_DESTROY."""
        self._do(Rmi.REALM_DESTROY, rd)

    def rec_aux_count(self, rd: int) -> int:
        """RMI_REC_AUX_COUNT."""
        return self._do(Rmi.REC_AUX_COUNT, rd).x1

    def rec_create(self, rd: int, rec: int, params_ptr: int) -> None:
        """RMI_REC_CREATE."""
        self._do(Rmi.REC_CREATE, rd, rec, params_ptr)

    def rec_destroy(self, rec: int) -> None:
        """RMI_REC_DESTROY."""
        self._do(Rmi.REC_DESTROY, rec)

    def rec_enter(self, rec: int, run_ptr: int) -> None:
        """RMI_REC_ENTER: returns when the REC exits."""
        self._plain(Rmi.REC_ENTER, rec, run_ptr)

    def data_create(self, rd: int, data: int, ipa: int, src: int, flags: int) -> None:
        """RMI_DATA_CREATE."""
        self._plain(Rmi.DATA_CREATE, rd, data, ipa, src, flags)

    def data_create_unknown(self, rd: int, data: int, ipa: int) -> RmiResult:
        """RMI_DATA_CREATE_UNKNOWN; an RTT status is returned, not raised."""
        return self._expect_rtt(Rmi.DATA_CREATE_UNKNOWN, rd, data, ipa)

    def data_destroy(self, rd: int, ipa: int) -> RmiResult:
        """RMI_DATA_DESTROY: X1 is the granule, X2 the top; an RTT status is returned, not raised."""
        return self._expect_rtt(Rmi.DATA_DESTROY, rd, ipa)

    def rtt_create(self, rd: int, rtt: int, ipa: int, level: int) -> RmiResult:
        """RMI_RTT_CREATE; an RTT status is returned, not raised."""
        return self._expect_rtt(Rmi.RTT_CREATE, rd, rtt, ipa, level)

    def rtt_destroy(self, rd: int, ipa: int, level: int) -> RmiResult:
        """RMI_RTT_DESTROY: X1 is the table, X2 the top; an RTT status is returned, not raised."""
        return self._expect_rtt(Rmi.RTT_DESTROY, rd, ipa, level)

    def rtt_fold(self, rd: int, ipa: int, level: int) -> RmiResult:
        """RMI_RTT_FOLD: X1 is the table; an RTT status is returned, not raised."""
        return self._expect_rtt(Rmi.RTT_FOLD, rd, ipa, level)

    def rtt_read_entry(self, rd: int, ipa: int, level: int) -> RmiResult:
        """RMI_RTT_READ_ENTRY: walk level, state, descriptor, RIPAS."""
        return self._do(Rmi.RTT_READ_ENTRY, rd, ipa, level)

    def rtt_map_unprotected(self, rd: int, ipa: int, level: int, desc: int) -> RmiResult:
        """RMI_RTT_MAP_UNPROTECTED; an RTT status is returned, not raised."""
        return self._expect_rtt(Rmi.RTT_MAP_UNPROTECTED, rd, ipa, level, desc)

    def rtt_unmap_unprotected(self, rd: int, ipa: int, level: int) -> RmiResult:
        """RMI_RTT_UNMAP_UNPROTECTED: X1 is the top; an RTT status is returned, not raised."""
        return self._expect_rtt(Rmi.RTT_UNMAP_UNPROTECTED, rd, ipa, level)

    def rtt_init_ripas(self, rd: int, base: int, top: int) -> RmiResult:
        """RMI_RTT_INIT_RIPAS: X1 is the progress; an RTT status is returned, not raised."""
        return self._expect_rtt(Rmi.RTT_INIT_RIPAS, rd, base, top)

    def rtt_set_ripas(self, rd: int, rec: int, base: int, top: int) -> RmiResult:
        """RMI_RTT_SET_RIPAS: X1 is the progress; an RTT status is returned, not raised."""
        return self._expect_rtt(Rmi.RTT_SET_RIPAS, rd, rec, base, top)

    def psci_complete(self, calling_rec: int, target_rec: int, status: int) -> None:
        """RMI_PSCI_COMPLETE; ``status`` is a PsciStatus."""
        self._do(Rmi.PSCI_COMPLETE, calling_rec, target_rec, unsigned(status))

    def _expect_rtt(self, command: Rmi, *arguments: int) -> RmiResult:
        result = self.call(command, *arguments)
        if not result.success and result.rtt_level() is None:
            raise self.error(command, arguments, result)
        return result
