"""The address space of a Realm of the kit, and the pieces that its programs are made of."""

import hashlib

from realmkit.arch.pas import GRANULE_SIZE
from tests.isolation import code

WIDTH = 33
UNPROTECTED = 1 << WIDTH - 1
CODE, VECTORS, DATA = 0x0000, 0x1000, 0x2000
"""IPAs of a Realm's pages: its program, its exception vectors, and where further pages usually begin."""
RAM_TOP = 0x20_0000
OUT = UNPROTECTED + 0x10_0000
SHARED = UNPROTECTED + 0x20_0000
"""A part of the Unprotected half that has a level 3 table and no mappings."""
SHARED_ATTRIBUTES = 6 << 2 | 3 << 6
"""Normal memory, read and write."""
DONE, ESR, FAR, ELR, ASK = 0x08, 0x10, 0x18, 0x20, 0x28
"""The register bank at OUT; its first place takes reports."""
BASE, SCRATCH = 28, 27
"""Registers: address of OUT, and one for the vectors."""


def secret(name: str) -> bytes:
    """A page that nobody guesses."""
    return b"".join(hashlib.sha256(f"{name} {n}".encode()).digest() for n in range(GRANULE_SIZE // 32))


def word(content: bytes, offset: int = 0) -> int:
    """A 64-bit word of memory."""
    return int.from_bytes(content[offset : offset + 8], "little")


def out(rt: int) -> int:
    """Report a register to the test."""
    return code.store(rt, BASE)


def ask(rt: int) -> int:
    """Get the next input of the test."""
    return code.ldr(rt, BASE, ASK)


def done() -> list[int]:
    """End of the run."""
    return [code.store(code.XZR, BASE, DONE), code.STAY]


def load(address: int) -> list[int]:
    """Read one word of memory and report it."""
    return [*code.mov(1, address), code.ldr(0, 1), out(0)]


def put(address: int, value: int) -> list[int]:
    """Write one word of memory."""
    return [*code.mov(1, address), *code.mov(0, value), code.store(0, 1)]


def call(address: int) -> list[int]:
    """Execute what is at an address."""
    return [*code.mov(1, address), code.blr(1)]


def checksum(base: int, size: int = GRANULE_SIZE) -> list[int]:
    """Report a checksum of memory."""
    return [*code.checksum(0, base, size), out(0)]


def function(value: int) -> bytes:
    """A page with a function that returns ``value`` in X0."""
    return code.pack([*code.mov(0, value), code.RET])


def vectors() -> bytes:
    """Exception vectors of a Realm: report the syndrome and end the run."""
    report = []
    for place, name in ((ESR, "ESR_EL1"), (FAR, "FAR_EL1"), (ELR, "ELR_EL1")):
        report += [code.mrs(SCRATCH, name), code.store(SCRATCH, BASE, place)]
    return code.pack([*report, *done()]).ljust(0x80, b"\0") * 16
