"""Expected Realm measurements, computed from a launch plan (RMM 1.0-rel0 A7.1, C1; spec: measurement).

The owner's own calculation, written from the specification's tables and sharing no code with those who execute a plan.
Digests go in and out at their own length (32 bytes for SHA-256, 64 for SHA-512), as the token carries them.
"""

import hashlib
import struct
from collections.abc import Iterator, Sequence
from typing import Final

from realmkit.arch.errors import RealmkitError
from realmkit.arch.pas import GRANULE_SHIFT, GRANULE_SIZE
from realmkit.arch.plan import CreateRec, InitRipas, LaunchPlan, LoadPage, RealmConfiguration
from realmkit.arch.rmi import DATA_MEASURE_CONTENT, REC_RUNNABLE, HashAlgorithm

_DIGEST: Final = {HashAlgorithm.SHA_256: hashlib.sha256, HashAlgorithm.SHA_512: hashlib.sha512}

# RmmMeasurementDescriptor*: type u8, len u64 at 8, old RIM[64] at 0x10, then the fields of each type; 0x100 bytes.
_DESCRIPTOR_SIZE: Final = 0x100
_DATA_HEADER: Final = struct.pack("<B7xQ", 0, _DESCRIPTOR_SIZE)
_REC_HEADER: Final = struct.pack("<B7xQ", 1, _DESCRIPTOR_SIZE)
_RIPAS_HEADER: Final = struct.pack("<B7xQ", 2, _DESCRIPTOR_SIZE)
_RIM_SIZE: Final = 64
_RIM_PADDING: Final = {a: bytes(_RIM_SIZE - a.digest_size) for a in HashAlgorithm}
_DATA_TAIL: Final = {a: bytes(_DESCRIPTOR_SIZE - 0x60 - a.digest_size) for a in HashAlgorithm}
_REC_TAIL: Final = {a: bytes(_DESCRIPTOR_SIZE - 0x50 - a.digest_size) for a in HashAlgorithm}
_ZERO_TAIL: Final = bytes(_DESCRIPTOR_SIZE - 0x60)
_PAIR: Final = struct.Struct("<QQ")

_MIN_LEVEL: Final = -1
_MAX_LEVEL: Final = 3


def initial_rim(realm: RealmConfiguration) -> bytes:
    """RIM of a Realm that has just been created: the hash of RmiRealmParams with only the measured fields set.

    Raises RealmkitError when a field does not fit its place in the structure.
    """
    image = bytearray(GRANULE_SIZE)
    try:
        struct.pack_into("<Q", image, 0x000, realm.flags)
        for offset, value in (
            (0x008, realm.ipa_width),
            (0x010, realm.sve_vl),
            (0x018, realm.num_bps),
            (0x020, realm.num_wps),
            (0x028, realm.pmu_num_ctrs),
            (0x030, realm.hash_algo),
        ):
            image[offset] = value
    except (ValueError, struct.error) as error:
        raise RealmkitError(f"the Realm configuration does not fit RmiRealmParams: {error}") from error
    return _DIGEST[realm.hash_algo](image).digest()


def extend_ripas(algorithm: HashAlgorithm, rim: bytes, base: int, top: int) -> bytes:
    """RIM after RMI_RTT_INIT_RIPAS has processed one table entry that covers [``base``, ``top``)."""
    _check_digest(algorithm, rim, "RIM")
    fields = _words("RIPAS descriptor", base, top)
    return _DIGEST[algorithm](_RIPAS_HEADER + rim + _RIM_PADDING[algorithm] + fields + _ZERO_TAIL).digest()


def extend_data(algorithm: HashAlgorithm, rim: bytes, ipa: int, content: bytes, *, measured: bool = True) -> bytes:
    """RIM after RMI_DATA_CREATE of one page of 4096 bytes at ``ipa``; ``measured`` is RMI_MEASURE_CONTENT."""
    _check_digest(algorithm, rim, "RIM")
    if len(content) != GRANULE_SIZE:
        raise RealmkitError(f"the page at IPA {ipa:#x} has {len(content)} bytes; a page has {GRANULE_SIZE}")
    fields = _words("DATA descriptor", ipa, DATA_MEASURE_CONTENT if measured else 0)
    digest = _DIGEST[algorithm]
    tail = digest(content).digest() + _DATA_TAIL[algorithm] if measured else _ZERO_TAIL
    return digest(_DATA_HEADER + rim + _RIM_PADDING[algorithm] + fields + tail).digest()


def extend_rec(algorithm: HashAlgorithm, rim: bytes, pc: int, gprs: Sequence[int]) -> bytes:
    """RIM after RMI_REC_CREATE of a runnable REC that starts at ``pc`` with X0..X7 = ``gprs``."""
    _check_digest(algorithm, rim, "RIM")
    if len(gprs) != 8:
        raise RealmkitError(f"a REC has 8 measured general-purpose registers, got {len(gprs)}")
    image = bytearray(GRANULE_SIZE)
    try:
        struct.pack_into("<Q", image, 0x000, REC_RUNNABLE)
        struct.pack_into("<Q", image, 0x200, pc)
        struct.pack_into("<8Q", image, 0x300, *gprs)
    except struct.error as error:
        raise RealmkitError(f"PC and registers of a REC are 64-bit values: {error}") from error
    digest = _DIGEST[algorithm]
    content = digest(image).digest()
    return digest(_REC_HEADER + rim + _RIM_PADDING[algorithm] + content + _REC_TAIL[algorithm]).digest()


def extend_rem(algorithm: HashAlgorithm, rem: bytes, value: bytes, *, padded: bool = False) -> bytes:
    """REM after RSI_MEASUREMENT_EXTEND with ``value`` (0 to 64 bytes); a REM starts as zeros.

    ``padded`` selects the other reading of the specification, in which the value is zero-padded to 64 bytes before
    it is hashed (spec: measurement section 4); both agree for 64 bytes.
    """
    _check_digest(algorithm, rem, "REM")
    if len(value) > 64:
        raise RealmkitError(f"a REM is extended with at most 64 bytes, got {len(value)}")
    return _DIGEST[algorithm](rem + (value.ljust(64, b"\0") if padded else value)).digest()


def explain_rim(plan: LaunchPlan) -> Iterator[tuple[str, bytes]]:
    """Every measured operation of ``plan`` in words, with the RIM after it, from creation to the last step.

    Raises RealmkitError at the first step that no RMM could execute.
    """
    realm = plan.realm
    algorithm = realm.hash_algo
    rim = initial_rim(realm)
    yield (
        f"REALM_CREATE flags={realm.flags:#x} s2sz={realm.ipa_width} sve_vl={realm.sve_vl} num_bps={realm.num_bps} "
        f"num_wps={realm.num_wps} pmu_num_ctrs={realm.pmu_num_ctrs} hash_algo={algorithm.claim_name}",
        rim,
    )
    for step in plan.steps:
        match step:
            case LoadPage(ipa, content, measured):
                rim = extend_data(algorithm, rim, ipa, content, measured=measured)
                yield f"DATA_CREATE ipa={ipa:#x} flags={int(measured)}", rim
            case InitRipas():
                for base, top in _entries(step):
                    rim = extend_ripas(algorithm, rim, base, top)
                    yield f"RTT_INIT_RIPAS base={base:#x} top={top:#x}", rim
            case CreateRec(mpidr, pc, gprs, runnable=True):
                rim = extend_rec(algorithm, rim, pc, gprs)
                yield f"REC_CREATE mpidr={mpidr:#x} pc={pc:#x} gprs={' '.join(f'{x:#x}' for x in gprs)}", rim


def predict_rim(plan: LaunchPlan) -> bytes:
    """RIM of the Realm that ``plan`` builds; raises RealmkitError for a plan that no RMM could execute."""
    rim = b""
    for _, rim in explain_rim(plan):  # noqa: B007 - the last value is the result
        pass
    return rim


def _entries(step: InitRipas) -> Iterator[tuple[int, int]]:
    """The table entries that RMI_RTT_INIT_RIPAS measures, one by one, ascending."""
    if not _MIN_LEVEL <= step.level <= _MAX_LEVEL:
        raise RealmkitError(f"INIT_RIPAS at level {step.level}: levels are {_MIN_LEVEL} to {_MAX_LEVEL}")
    size = 1 << GRANULE_SHIFT + 9 * (_MAX_LEVEL - step.level)
    if step.base % size or step.top % size or step.base >= step.top:
        raise RealmkitError(
            f"INIT_RIPAS [{step.base:#x}, {step.top:#x}) is not a range of whole level {step.level} entries "
            f"({size:#x} bytes each)"
        )
    for base in range(step.base, step.top, size):
        yield base, base + size


def _check_digest(algorithm: HashAlgorithm, digest: bytes, name: str) -> None:
    if len(digest) != algorithm.digest_size:
        raise RealmkitError(
            f"a {name} of {algorithm.claim_name} has {algorithm.digest_size} bytes, got {len(digest)} "
            "(stored measurements are zero-extended to 64: cut them)"
        )


def _words(what: str, first: int, second: int) -> bytes:
    try:
        return _PAIR.pack(first, second)
    except struct.error as error:
        raise RealmkitError(f"{what}: {first:#x} and {second:#x} must be unsigned 64-bit values") from error
