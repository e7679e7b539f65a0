"""Field tables: registers and memory structures declared once, that pack, unpack and print themselves."""

import struct
from collections.abc import Hashable
from dataclasses import field, fields
from functools import cache
from typing import Any, ClassVar, NamedTuple, Self, cast

_CODES = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "s64": "q"}


class _Slot(NamedTuple):
    name: str
    offset: int
    single: bool
    """One value, not a tuple."""
    form: struct.Struct
    """Little-endian."""


def _slot(name: str, offset: int, kind: str, length: int) -> _Slot:
    if kind == "bytes":
        return _Slot(name, offset, True, struct.Struct(f"<{length}s"))
    return _Slot(name, offset, length == 1, struct.Struct(f"<{length}{_CODES[kind]}"))


def at(offset: int, kind: str, count: int = 1) -> Any:
    """Declare a structure member at byte ``offset``.

    ``kind`` is u8, u16, u32, u64, s64 or bytes; ``count`` above 1 makes a tuple (or sets the length of bytes).
    """
    default: Any
    if kind == "bytes":
        default = bytes(count)
    elif count == 1:
        default = 0
    else:
        default = (0,) * count
    return field(default=default, metadata={"slot": (offset, kind, count)})


@cache
def _read_slots(cls: Hashable) -> tuple[_Slot, ...]:
    return tuple(_slot(f.name, *f.metadata["slot"]) for f in fields(cast(Any, cls)))


def _slots(cls: Any) -> tuple[_Slot, ...]:
    return _read_slots(cls)


class Layout:
    """Base of memory structures: a dataclass whose members are declared with :func:`at`.

    Members not listed are zero when packed and ignored when unpacked.
    """

    SIZE: ClassVar[int]

    def pack(self) -> bytes:
        """The structure as SIZE bytes, little-endian, all unlisted bytes zero."""
        image = bytearray(self.SIZE)
        for slot in _slots(type(self)):
            value = getattr(self, slot.name)
            if slot.single:
                slot.form.pack_into(image, slot.offset, value)
            else:
                slot.form.pack_into(image, slot.offset, *value)
        return bytes(image)

    @classmethod
    def unpack(cls, image: bytes) -> Self:
        """Read the structure from at least as many bytes as its last member needs."""
        values = {}
        for slot in _slots(cls):
            raw = slot.form.unpack_from(image, slot.offset)
            values[slot.name] = raw[0] if slot.single else raw
        return cls(**values)

    @classmethod
    def offset_of(cls, name: str) -> int:
        """Byte offset of a member."""
        return next(s.offset for s in _slots(cls) if s.name == name)

    def describe(self) -> dict[str, int | str | list[int]]:
        """The members that are not zero, in a form that JSON can hold (bytes as hex)."""
        shown: dict[str, int | str | list[int]] = {}
        for slot in _slots(type(self)):
            value = getattr(self, slot.name)
            if isinstance(value, bytes):
                if any(value):
                    shown[slot.name] = value.hex()
            elif isinstance(value, tuple):
                if any(value):
                    shown[slot.name] = list(value)
            elif value:
                shown[slot.name] = value
        return shown


class RegisterTable:
    """Bit fields of one register: name -> (low bit, high bit), both inclusive."""

    def __init__(self, name: str, **bits: tuple[int, int]) -> None:
        self.name = name
        self.bits = bits
        self._place = {f: (lo, (1 << (hi - lo + 1)) - 1) for f, (lo, hi) in bits.items()}

    def get(self, value: int, name: str) -> int:
        """Extract one field."""
        low, mask = self._place[name]
        return (value >> low) & mask

    def make(self, **values: int) -> int:
        """A register value from field values; raises ValueError when one does not fit."""
        result = 0
        for name, value in values.items():
            low, mask = self._place[name]
            if value & ~mask:
                raise ValueError(f"{self.name}.{name} holds at most {mask:#x}, got {value:#x}")
            result |= value << low
        return result

    def mask(self, *names: str) -> int:
        """Mask that covers the given fields (all fields without arguments)."""
        result = 0
        for name in names or self._place:
            low, mask = self._place[name]
            result |= mask << low
        return result

    def describe(self, value: int) -> str:
        """The register in words, fields that are zero left out."""
        parts = [f"{n}={v:#x}" for n in self._place if (v := self.get(value, n))]
        return f"{self.name}={value:#x} ({' '.join(parts) or 'zero'})"
