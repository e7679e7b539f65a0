"""Strict CBOR decoding of evidence (RFC 8949): the subset that a CCA token uses, and nothing that could be ambiguous.

General decoders accept duplicate keys, indefinite lengths and tags with effects; each of these lets one token mean two
things to two readers. Here every item is definite, every key unique, nothing follows the item, and tags stay data.
"""

import reprlib
import struct
from dataclasses import dataclass
from typing import Final, Union

MAX_SIZE: Final = 1 << 16
MAX_DEPTH: Final = 16

_UINT, _NINT, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_ARGUMENT: Final = {24: struct.Struct(">B"), 25: struct.Struct(">H"), 26: struct.Struct(">I"), 27: struct.Struct(">Q")}
_FLOAT: Final = {25: struct.Struct(">e"), 26: struct.Struct(">f"), 27: struct.Struct(">d")}
_CONSTANTS: Final[dict[int, bool | None]] = {20: False, 21: True, 22: None}

Key = int | str
Value = Union[int, bytes, str, bool, float, None, "list[Value]", "dict[Key, Value]", "Tag", "Simple"]


class CborError(ValueError):
    """The bytes are not one strict CBOR item; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Tag:
    """A tagged item."""

    number: int
    content: Value


@dataclass(frozen=True, slots=True)
class Simple:
    """A simple value without a meaning here (``undefined`` is 23)."""

    number: int


def decode(data: bytes) -> Value:
    """The one CBOR item that ``data`` consists of.

    Raises CborError for anything else: truncated or trailing bytes, indefinite lengths, reserved encodings, duplicate
    keys, keys other than integers and text, text that is not UTF-8, more than MAX_SIZE bytes or MAX_DEPTH levels.
    """
    if len(data) > MAX_SIZE:
        raise CborError(f"{len(data)} bytes; at most {MAX_SIZE} are accepted")
    reader = _Reader(data)
    value = reader.item(0)
    if reader.position != len(data):
        raise CborError(f"{len(data) - reader.position} bytes follow the item that ends at offset {reader.position}")
    return value


class _Reader:
    __slots__ = ("_data", "position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def _take(self, count: int) -> bytes:
        start = self.position
        chunk = self._data[start : start + count]
        if len(chunk) != count:
            raise CborError(f"{count} bytes expected at offset {start}, {len(chunk)} are left")
        self.position = start + count
        return chunk

    def item(self, depth: int) -> Value:
        start = self.position
        if depth > MAX_DEPTH:
            raise CborError(f"more than {MAX_DEPTH} levels of nesting at offset {start}")
        initial = self._take(1)[0]
        major, info = initial >> 5, initial & 0x1F
        if major == _SIMPLE:
            return self._simple(info, start)
        argument = self._argument(info, start)
        if major == _UINT:
            return argument
        if major == _NINT:
            return -1 - argument
        if major == _BYTES:
            return self._take(argument)
        if major == _TEXT:
            return self._text(argument, start)
        if major == _ARRAY:
            self._check_count(argument, 1, start)
            return [self.item(depth + 1) for _ in range(argument)]
        if major == _MAP:
            self._check_count(argument, 2, start)
            return self._map(argument, depth)
        return Tag(argument, self.item(depth + 1))

    def _argument(self, info: int, start: int) -> int:
        if info < 24:
            return info
        form = _ARGUMENT.get(info)
        if form is None:
            kind = "an indefinite length" if info == 31 else "a reserved encoding"
            raise CborError(f"{kind} at offset {start}; only definite lengths are accepted")
        (value,) = form.unpack(self._take(form.size))
        return int(value)

    def _check_count(self, count: int, bytes_each: int, start: int) -> None:
        # Every element takes at least one byte: refuse a false count before looping over it.
        left = len(self._data) - self.position
        if count * bytes_each > left:
            raise CborError(f"{count} elements announced at offset {start}, {left} bytes are left")

    def _text(self, length: int, start: int) -> str:
        try:
            return self._take(length).decode()
        except UnicodeDecodeError as error:
            raise CborError(f"the text at offset {start} is not UTF-8") from error

    def _map(self, count: int, depth: int) -> "dict[Key, Value]":
        result: dict[Key, Value] = {}
        for _ in range(count):
            at = self.position
            key = self.item(depth + 1)
            # bool is an int to Python, and True would silently equal the key 1.
            if isinstance(key, bool) or not isinstance(key, int | str):
                raise CborError(f"the map key at offset {at} is neither an integer nor text")
            if key in result:
                raise CborError(f"duplicate map key {reprlib.repr(key)} at offset {at}")
            result[key] = self.item(depth + 1)
        return result

    def _simple(self, info: int, start: int) -> Value:
        if info in _FLOAT:
            form = _FLOAT[info]
            (number,) = form.unpack(self._take(form.size))
            return float(number)
        value = self._argument(info, start)
        if info == 24 and value < 32:
            raise CborError(f"a reserved encoding at offset {start}")
        return _CONSTANTS[value] if value in _CONSTANTS else Simple(value)
