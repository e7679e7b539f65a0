"""Values of command line options: text to numbers, with errors that say what would be right."""

import re
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Annotated, Final, Self

import typer

from realmkit.arch.errors import RealmkitError
from realmkit.attestation.verify import MAX_CHALLENGE, MIN_CHALLENGE

_SIZE: Final = re.compile(r"(\d+)([BKMGT]?)", re.IGNORECASE | re.ASCII)
_UNITS: Final = {"B": 0, "K": 10, "M": 20, "G": 30, "T": 40}
MAX_RPV: Final = 64

ReportFile = Annotated[
    Path | None, typer.Option(help="Write the report here.", metavar="FILE.json", show_default=False)
]
TraceFile = Annotated[
    Path | None,
    typer.Option(help="Write every event here, one JSON object a line.", metavar="FILE.jsonl", show_default=False),
]


def size(text: str) -> int:
    """Bytes of ``64M``, ``2G``, ``512K``, ``4096B``; a bare number counts MiB, as kvmtool has it."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise RealmkitError(f"{text!r} is not a size: write a number with B, K, M, G or T, such as 64M")
    return int(match[1]) << _UNITS[match[2].upper() or "M"]


def number(text: str) -> int:
    """A whole number, decimal or with 0x."""
    try:
        value = int(text, 0)
    except ValueError:
        raise RealmkitError(f"{text!r} is not a number: write decimal digits, or 0x and hexadecimal ones") from None
    if value < 0:
        raise RealmkitError(f"{text!r} is negative: addresses and counts are not")
    return value


def challenge(text: str) -> bytes:
    """32 to 64 bytes from hexadecimal digits."""
    try:
        value = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raise RealmkitError(f"challenge {text!r} is not hexadecimal: write 64 to 128 hexadecimal digits") from None
    if not MIN_CHALLENGE <= len(value) <= MAX_CHALLENGE:
        raise RealmkitError(
            f"a challenge has {MIN_CHALLENGE} to {MAX_CHALLENGE} bytes, this one has {len(value)}: "
            f"write {2 * MIN_CHALLENGE} to {2 * MAX_CHALLENGE} hexadecimal digits"
        )
    return value


def personalization(text: str) -> bytes:
    """A Realm personalization value: UTF-8, at most 64 bytes, zero-padded."""
    value = text.encode("utf-8", "surrogateescape")
    if len(value) > MAX_RPV:
        raise RealmkitError(f"a Realm personalization value has at most {MAX_RPV} bytes, this one has {len(value)}")
    return value.ljust(MAX_RPV, b"\0")


def check_writable(path: Path | None, what: str) -> None:
    """Fail early, before minutes of work, where a result file cannot be written."""
    if path is None:
        return
    if path.is_dir():
        raise RealmkitError(f"cannot write {what} {path}: it is a directory")
    if not path.parent.is_dir():
        raise RealmkitError(f"cannot write {what} {path}: there is no directory {path.parent}")


def check_distinct(*files: tuple[Path | None, str]) -> None:
    """No result may end up in a file that is something else as well; devices such as /dev/null may take several."""
    known: dict[Path | tuple[int, int], str] = {}
    for path, what in files:
        if path is None or (path.exists() and not path.is_file()):
            continue
        # One file may have several names: symbolic links, and hard links.
        file = (path.stat().st_dev, path.stat().st_ino) if path.exists() else path.resolve()
        other = known.setdefault(file, what)
        if other is not what:
            raise RealmkitError(f"{path} is {other} and {what} at once: give each a file of its own")


def write_file(path: Path, content: bytes, what: str) -> None:
    """Write a result, with an error that names it."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise RealmkitError(f"cannot write {what} {path}: {error.strerror}") from error


class Output:
    """What is written while the machine runs, without disturbing it.

    When it cannot be written any more, ``on_failure`` is called, the error is kept for later, and the rest is dropped.
    """

    def __init__(self) -> None:
        self._failure: OSError | None = None
        self.on_failure: Callable[[], None] = lambda: None

    def _attempt(self, action: Callable[[], object]) -> None:
        if self._failure is None:
            try:
                action()
            except OSError as error:
                self._failure = error
                self.on_failure()


class Growing(Output):
    """A result that grows; a context manager, which raises an error that names the file when it is left."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__()
        self._path, self._what = path, what
        try:
            self._file = path.open("wb")
        except OSError as error:
            raise self._error(error) from error

    def write(self, data: bytes) -> None:
        """Add to it."""
        self._attempt(lambda: self._file.write(data))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        except OSError as failure:
            self._failure = self._failure or failure
        if self._failure is not None and error is None:
            raise self._error(self._failure) from self._failure

    def _error(self, error: OSError) -> RealmkitError:
        return RealmkitError(f"cannot write {self._what} {self._path}: {error.strerror}")
