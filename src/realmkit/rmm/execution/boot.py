"""Boot of the RMM: arguments, manifest, attestation key and platform token (spec: monitor-rme sections 5 and 7)."""

import hashlib
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric import ec

from realmkit.arch import smccc
from realmkit.arch.cose import p384_key
from realmkit.arch.pas import GRANULE_MASK, GRANULE_SIZE, Pas
from realmkit.arch.smccc import MASK64, signed, unsigned
from realmkit.machine.port import El2Port, ExternalAbort, GranuleProtectionFault
from realmkit.rmm.state import RealmAttestation

if TYPE_CHECKING:
    from realmkit.rmm.rmm import Rmm

INTERFACE_MAJOR: Final = 0
INTERFACE_MINOR: Final = 3
MANIFEST_MAJOR: Final = 0
MANIFEST_MINOR: Final = 3
MAX_CPUS: Final = 512

OK: Final = 0
VERSION_UNSUPPORTED: Final = -2
TOO_MANY_CPUS: Final = -3
CPU_INDEX_OUT_OF_RANGE: Final = -4
BAD_SHARED_BUFFER: Final = -5
BAD_MANIFEST_VERSION: Final = -6
BAD_MANIFEST_DATA: Final = -7

_VERSION: Final = struct.Struct("<I")
_BANKS_OFFSET: Final = 16
_CONSOLES_OFFSET: Final = 40
_ARRAY: Final = struct.Struct("<3Q")
_BANK_WORDS: Final = 2
_CONSOLE_WORDS: Final = 6
_PA_LIMIT: Final = 1 << 52
_KEY_SIZE: Final = 48
_TRIES: Final = 100


class BootError(Exception):
    """The RMM cannot boot: ``code`` goes to the Monitor."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def boot(rmm: "Rmm", port: El2Port, x: Sequence[int]) -> None:
    """Cold or warm boot of a PE; ends with RMM_BOOT_COMPLETE."""
    try:
        if rmm.max_cpus == 0:
            _cold_boot(rmm, port, x)
        elif x[0] >= rmm.max_cpus:
            raise BootError(CPU_INDEX_OUT_OF_RANGE)
        code = OK
    except BootError as error:
        code = error.code
    port.smc(smccc.RMM_BOOT_COMPLETE, unsigned(code))


def _cold_boot(rmm: "Rmm", port: El2Port, x: Sequence[int]) -> None:
    index, version, cpus, buffer = x[0], x[1], x[2], x[3]
    if version >> 31 or version >> 16 != INTERFACE_MAJOR or version & 0xFFFF < INTERFACE_MINOR:
        raise BootError(VERSION_UNSUPPORTED)
    if cpus > MAX_CPUS:
        raise BootError(TOO_MANY_CPUS)
    if index >= cpus:
        raise BootError(CPU_INDEX_OUT_OF_RANGE)
    if not buffer or buffer & GRANULE_MASK:
        raise BootError(BAD_SHARED_BUFFER)
    try:
        page = port.bus.read(Pas.REALM, buffer, GRANULE_SIZE)
    except (GranuleProtectionFault, ExternalAbort):
        raise BootError(BAD_SHARED_BUFFER) from None
    rmm.granules.set_delegable(_dram_banks(page, buffer))
    rmm.max_cpus = cpus
    rmm.attestation = _attestation(port, buffer)


def _dram_banks(page: bytes, buffer: int) -> list[tuple[int, int]]:
    """(base, size) of the DRAM banks of a boot manifest."""
    (version,) = _VERSION.unpack_from(page)
    if version >> 31 or version >> 16 != MANIFEST_MAJOR or version & 0xFFFF < MANIFEST_MINOR:
        raise BootError(BAD_MANIFEST_VERSION)
    _checked_array(page, buffer, _CONSOLES_OFFSET, _CONSOLE_WORDS)
    words = _checked_array(page, buffer, _BANKS_OFFSET, _BANK_WORDS)
    banks = list(zip(words[::2], words[1::2], strict=True))
    end = 0
    for base, size in banks:
        if (base | size) & GRANULE_MASK or not size or base < end or base + size > _PA_LIMIT:
            raise BootError(BAD_MANIFEST_DATA)
        end = base + size
    if not banks:
        raise BootError(BAD_MANIFEST_DATA)
    return banks


def _checked_array(page: bytes, buffer: int, where: int, width: int) -> tuple[int, ...]:
    """The words of an array of the manifest; at ``where`` are its number of items, pointer and checksum."""
    count, pointer, checksum = _ARRAY.unpack_from(page, where)
    offset = pointer - buffer if count else 0
    length = count * width
    if not 0 <= offset <= GRANULE_SIZE - 8 * length or offset & 7:
        raise BootError(BAD_MANIFEST_DATA)
    words = struct.unpack_from(f"<{length}Q", page, offset)
    if sum(words) + count + pointer + checksum & MASK64:
        raise BootError(BAD_MANIFEST_DATA)
    return words


def _attestation(port: El2Port, buffer: int) -> RealmAttestation | None:
    """RAK and platform token; None when the Monitor does not give them: the RMM boots, tokens fail."""
    size = _call(port, smccc.ATTEST_GET_REALM_KEY, buffer, GRANULE_SIZE, 0)
    if size is None or size[0] != _KEY_SIZE:
        return None
    scalar = int.from_bytes(port.bus.read(Pas.REALM, buffer, _KEY_SIZE), "big")
    port.bus.zero(Pas.REALM, buffer, _KEY_SIZE)
    try:
        key = ec.derive_private_key(scalar, ec.SECP384R1())
    except ValueError:
        return None
    numbers = key.public_key().public_numbers()
    cose_key = p384_key(numbers.x.to_bytes(_KEY_SIZE, "big"), numbers.y.to_bytes(_KEY_SIZE, "big"))
    challenge = hashlib.sha256(cose_key).digest()
    port.bus.write(Pas.REALM, buffer, challenge)
    token = b""
    length = len(challenge)
    while True:
        hunk = _call(port, smccc.ATTEST_GET_PLAT_TOKEN, buffer, GRANULE_SIZE, length)
        if hunk is None or not 0 < hunk[0] <= GRANULE_SIZE:
            return None
        token += port.bus.read(Pas.REALM, buffer, hunk[0])
        if not hunk[1]:
            return RealmAttestation(key, cose_key, token)
        length = 0


def _call(port: El2Port, fid: int, *arguments: int) -> tuple[int, ...] | None:
    """X1.. of a call to EL3, repeated while it says AGAIN; None when it fails."""
    for _ in range(_TRIES):
        x = port.smc(fid, *arguments)
        status = signed(x[0])
        if status != smccc.E_RMM_AGAIN:
            return x[1:] if status == smccc.E_RMM_OK else None
    return None
