"""Memory that survives a reset, and with a file the end of the run (spec: host-platform, memory map)."""

from dataclasses import dataclass
from pathlib import Path

from realmkit.arch.errors import RealmkitError
from realmkit.arch.pas import GRANULE_MASK
from realmkit.machine.memory import PhysicalMemory
from realmkit.machine.platform import AddressRange

ERASED = 0xFF


@dataclass(frozen=True, slots=True)
class NonVolatile:
    """A non-volatile range of Non-secure memory, erased (0xFF) at power-on unless ``file`` holds contents."""

    span: AddressRange
    file: Path | None = None

    def __post_init__(self) -> None:
        if (self.span.base | self.span.size) & GRANULE_MASK or self.span.size <= 0:
            raise RealmkitError(
                f"non-volatile memory {self.span} is not possible: address and size are multiples of 4096 bytes"
            )

    def power_on_contents(self) -> bytes:
        """What the range holds at power-on; raises RealmkitError when the file cannot be used."""
        content = b""
        if self.file is not None:
            try:
                content = self._stored(self.file)
            except OSError as error:
                raise RealmkitError(
                    f"cannot read the non-volatile memory file {self.file}: {error.strerror}"
                ) from error
        return content.ljust(self.span.size, bytes([ERASED]))

    def _stored(self, file: Path) -> bytes:
        if not file.exists():
            if not file.parent.is_dir():
                raise RealmkitError(
                    f"cannot write the non-volatile memory file {file}: there is no directory {file.parent}"
                )
            return b""
        if not file.is_file() and not file.is_dir():
            raise RealmkitError(f"the non-volatile memory file {file} is not a regular file")
        size = file.stat().st_size
        if size > self.span.size and file.is_file():
            raise RealmkitError(f"the non-volatile memory file {file} has {size} bytes, the range has {self.span.size}")
        return file.read_bytes()

    def read(self, memory: PhysicalMemory) -> bytes:
        """Present contents."""
        return memory.read(self.span.base, self.span.size)

    def save(self, content: bytes) -> None:
        """Write the file, if there is one."""
        if self.file is None:
            return
        try:
            self.file.write_bytes(content)
        except OSError as error:
            raise RealmkitError(f"cannot write the non-volatile memory file {self.file}: {error.strerror}") from error
