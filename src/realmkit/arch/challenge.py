"""The attestation port: how a nonce enters a running guest and a token leaves it.

The port is a virtio-console port named :data:`PORT_NAME`. Both directions are lines of printable ASCII that end in a
line feed; everything has an upper bound. The nonce travels here, and never as measured content, so one measurement
fits every challenge. What crosses the port is in the Host's hands: the token needs no other protection than its
signature and its nonce, and the rest of an answer (``provider``, ``log``) is a hint for people, not evidence.

From the Host to the guest::

    challenge HEX       32 to 64 bytes, two digits each: answer with a report for this nonce
    poweroff            sync the disks and power off
    (an empty line)     no challenge: go on at once

From the guest to the Host, an answer for each challenge::

    provider TEXT       name of the kernel's report provider, for example arm_cca_guest
    log TEXT            a line of the guest's kernel log (the one that says which RSI version is used)
    token LENGTH        length of the token in bytes, in decimal digits
    data HEX            some of the token, in order; as many lines as needed
    end                 the token is complete
    error TEXT          instead of the rest: there will be no report, and why
"""

from dataclasses import dataclass
from typing import Final

from realmkit.arch.errors import RealmkitError

PORT_NAME: Final = "org.realmkit.attestation"
MIN_NONCE: Final = 32
MAX_NONCE: Final = 64
"""Bytes that the ``arm-cca-guest`` driver accepts as a nonce; shorter ones are the user's to pad."""
MAX_TOKEN: Final = 32 << 10
"""Longest token in bytes, which is what the kernel's report interface hands out at most."""
MAX_LINE: Final = 4096
MAX_LOG_LINES: Final = 16
_MAX_LINES: Final = 2 * MAX_TOKEN // 32 + MAX_LOG_LINES + 16
"""Lines of one answer: tokens in lines of 16 bytes, with room to spare."""
_MAX_TEXT: Final = 256


def encode_challenge(nonce: bytes) -> bytes:
    """The line that asks for a report; RealmkitError for a nonce outside 32 to 64 bytes."""
    if not MIN_NONCE <= len(nonce) <= MAX_NONCE:
        raise RealmkitError(
            f"a challenge of {len(nonce)} bytes: the guest's driver takes {MIN_NONCE} to {MAX_NONCE} bytes"
        )
    return f"challenge {nonce.hex()}\n".encode()


def encode_nothing() -> bytes:
    """The line that says that there is no challenge; a guest that hears nothing at all waits for one."""
    return b"\n"


def encode_poweroff() -> bytes:
    """The line that asks the guest to power off."""
    return b"poweroff\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the guest answered to one challenge: ``token``, or ``error`` and no token."""

    token: bytes = b""
    provider: str = ""
    log: tuple[str, ...] = ()
    error: str = ""


class AnswerReader:
    """Puts answers together from the bytes of the port, however they are cut.

    Nothing that a guest sends makes it keep more than one answer's bounds.
    """

    def __init__(self) -> None:
        self._pending = bytearray()
        self._begin()

    def _begin(self) -> None:
        self._lines = 0
        self._provider = ""
        self._log: list[str] = []
        self._length: int | None = None
        self._token = bytearray()

    def feed(self, data: bytes) -> list[Answer]:
        """Take bytes in; the answers that are complete now.

        RealmkitError says how an answer is malformed; what was read is dropped and the next line begins an answer.
        """
        self._pending += data
        *lines, rest = bytes(self._pending).split(b"\n")
        self._pending[:] = rest[: MAX_LINE + 1]
        answers = []
        try:
            for line in (*lines, rest):
                if len(line) > MAX_LINE:
                    raise RealmkitError(f"the guest's answer has a line of more than {MAX_LINE} bytes")
            for line in lines:
                answer = self._line(line)
                if answer is not None:
                    answers.append(answer)
                    self._begin()
        except RealmkitError:
            self._pending.clear()
            self._begin()
            raise
        return answers

    def _line(self, line: bytes) -> Answer | None:
        self._lines += 1
        if self._lines > _MAX_LINES:
            raise RealmkitError(f"the guest's answer has more than {_MAX_LINES} lines")
        keyword, _, text = line.rstrip(b"\r").decode("ascii", "replace").partition(" ")
        if keyword == "provider":
            self._provider = _printable(text)
        elif keyword == "log":
            if len(self._log) < MAX_LOG_LINES:
                self._log.append(_printable(text))
        elif keyword == "token":
            self._length = self._token_length(text)
        elif keyword == "data":
            self._data(text)
        elif keyword == "error":
            return Answer(b"", self._provider, tuple(self._log), _printable(text) or "no reason given")
        elif keyword == "end":
            return self._end()
        else:
            raise RealmkitError(f"the guest's answer has a line that is not in the protocol: {_printable(keyword)!r}")
        return None

    def _token_length(self, text: str) -> int:
        if self._length is not None:
            raise RealmkitError("the guest's answer has two tokens")
        if not (text.isdigit() and len(text) <= 6 and 0 < int(text) <= MAX_TOKEN):
            raise RealmkitError(
                f"the guest's answer has a token of {_printable(text)!r} bytes: 1 to {MAX_TOKEN} are possible"
            )
        return int(text)

    def _data(self, text: str) -> None:
        if self._length is None:
            raise RealmkitError("the guest's answer has data before the token's length")
        if not text or len(text) % 2 or text.strip("0123456789abcdefABCDEF"):
            raise RealmkitError("the guest's answer has data that is not hexadecimal")
        self._token += bytes.fromhex(text)
        if len(self._token) > self._length:
            raise RealmkitError(f"the guest's answer has more data than the {self._length} bytes it announced")

    def _end(self) -> Answer:
        if self._length is None or len(self._token) != self._length:
            expected = "no token" if self._length is None else f"a token of {self._length} bytes"
            raise RealmkitError(f"the guest's answer announced {expected} and ends after {len(self._token)} bytes")
        return Answer(bytes(self._token), self._provider, tuple(self._log))


def _printable(text: str) -> str:
    """At most 256 characters, without what would command a terminal."""
    return "".join(c if " " <= c <= "~" else "?" for c in text[:_MAX_TEXT])
