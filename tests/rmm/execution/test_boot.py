"""Boot of the RMM (spec: monitor-rme sections 5 and 7)."""

import hashlib
import struct
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from realmkit.arch import smccc
from realmkit.arch.pas import Gpi, Pas
from realmkit.arch.smccc import signed, unsigned
from realmkit.rmm.rmm import Rmm
from tests.rmm.fake import DEVICE, FakePort

SHARED = 0x8010_0000
SCALAR = (0xFEED_FACE_CAFE << 100).to_bytes(48, "big")
BANKS = ((0x8000_0000, 0x4000_0000), (0x8_8000_0000, 0x8000_0000))
TOKEN = bytes(range(256)) * 20
VERSION = 0x0000_0004
MANIFEST_VERSION = 0x0000_0003
OK, UNSUPPORTED, CPUS, INDEX, BUFFER, MANIFEST, DATA = 0, -2, -3, -4, -5, -6, -7


def array(count: int, pointer: int, content: bytes) -> bytes:
    """Number, pointer and checksum of an array of the manifest."""
    words = struct.unpack(f"<{len(content) // 8}Q", content)
    return struct.pack("<3Q", count, pointer, -(count + pointer + sum(words)) & (1 << 64) - 1)


def manifest(
    banks: tuple[tuple[int, int], ...] = BANKS, version: int = MANIFEST_VERSION, at: int = SHARED + 64
) -> bytes:
    """A page with a manifest, its banks and one console."""
    content = b"".join(struct.pack("<QQ", *bank) for bank in banks)
    console = struct.pack("<QQ8sQQQ", DEVICE, 1, b"pl011", 24_000_000, 115_200, 0)
    head = struct.pack("<IIQ", version, 0, 0) + array(len(banks), at, content)
    head += array(1, SHARED + 0x800, console)
    page = bytearray(4096)
    page[:64] = head
    page[64 : 64 + len(content)] = content
    page[0x800 : 0x800 + len(console)] = console
    return bytes(page)


class Board:
    """An RMM before its boot, and what the Monitor does for it."""

    def __init__(self, page: bytes | None = None) -> None:
        self.port = FakePort()
        self.rmm = Rmm()
        self.codes: list[int] = []
        self.challenges: list[bytes] = []
        self.hunk = 1000
        self.again = 0
        self.rest = b""
        self.port.bus.gpt[SHARED] = Gpi.REALM
        self.port.bus.write(Pas.REALM, SHARED, manifest() if page is None else page)
        self.port.services[smccc.RMM_BOOT_COMPLETE] = self._complete
        self.port.services[smccc.ATTEST_GET_REALM_KEY] = self._key
        self.port.services[smccc.ATTEST_GET_PLAT_TOKEN] = self._token

    def _complete(self, code: int) -> tuple[int, ...]:
        self.codes.append(signed(code))
        return ()

    def _key(self, buffer: int, size: int, curve: int) -> tuple[int, ...]:
        assert (buffer, curve) == (SHARED, 0)
        assert size >= 48
        self.port.bus.write(Pas.REALM, buffer, SCALAR)
        return (0, 48)

    def _token(self, buffer: int, size: int, challenge_size: int) -> tuple[int, ...]:
        if self.again:
            self.again -= 1
            return (unsigned(smccc.E_RMM_AGAIN),)
        if challenge_size:
            self.challenges.append(self.port.bus.read(Pas.REALM, buffer, challenge_size))
            self.rest = TOKEN
        hunk, self.rest = self.rest[: self.hunk], self.rest[self.hunk :]
        self.port.bus.write(Pas.REALM, buffer, hunk)
        return (0, len(hunk), len(self.rest))

    def boot(self, *x: int) -> int:
        """The code of RMM_BOOT_COMPLETE, which comes once."""
        before = len(self.codes)
        self.rmm.boot(self.port, x or (0, VERSION, 4, SHARED))
        assert len(self.codes) == before + 1
        return self.codes[-1]


def test_cold_boot() -> None:
    board = Board()
    assert board.boot() == OK
    for base, size in BANKS:
        assert board.rmm.granules.is_delegable(base)
        assert board.rmm.granules.is_delegable(base + size - 4096)
        assert not board.rmm.granules.is_delegable(base + size)
        assert not board.rmm.granules.is_delegable(base - 4096)
    held = board.rmm.attestation
    assert held is not None
    numbers = ec.derive_private_key(int.from_bytes(SCALAR, "big"), ec.SECP384R1()).public_key().public_numbers()
    assert held.cose_key == (
        b"\xa4\x01\x02\x20\x02\x21\x58\x30"
        + numbers.x.to_bytes(48, "big")
        + b"\x22\x58\x30"
        + numbers.y.to_bytes(48, "big")
    )
    assert len(held.cose_key) == 107
    assert board.challenges == [hashlib.sha256(held.cose_key).digest()]
    assert held.platform_token == TOKEN


def test_the_private_key_does_not_stay_in_the_shared_buffer() -> None:
    board = Board()
    seen: list[bytes] = []
    token = board.port.services[smccc.ATTEST_GET_PLAT_TOKEN]

    def looking(*x: int) -> tuple[int, ...]:
        seen.append(board.port.bus.read(Pas.REALM, SHARED, 4096))
        return token(*x)

    board.port.services[smccc.ATTEST_GET_PLAT_TOKEN] = looking
    board.boot()
    challenge = board.challenges[0]
    assert seen[0][:48] == challenge + bytes(48 - len(challenge))


@pytest.mark.parametrize("hunk", [1, 4095, 4096])
def test_the_platform_token_comes_in_hunks(hunk: int) -> None:
    board = Board()
    board.hunk = hunk
    board.again = 3
    assert board.boot() == OK
    assert board.rmm.attestation is not None
    assert board.rmm.attestation.platform_token == TOKEN


ARGUMENTS = {
    "interface 0.3": ((0, 3, 4, SHARED), OK),
    "interface 0.4": ((0, 4, 4, SHARED), OK),
    "interface 0.2": ((0, 2, 4, SHARED), UNSUPPORTED),
    "interface 1.3": ((0, 0x1_0003, 4, SHARED), UNSUPPORTED),
    "interface bit 31": ((0, 0x8000_0003, 4, SHARED), UNSUPPORTED),
    "interface bit 32": ((0, 1 << 32 | 3, 4, SHARED), UNSUPPORTED),
    "513 PEs": ((0, 3, 513, SHARED), CPUS),
    "2^64 - 1 PEs": ((0, 3, (1 << 64) - 1, SHARED), CPUS),
    "no PE": ((0, 3, 0, SHARED), INDEX),
    "last PE": ((3, 3, 4, SHARED), OK),
    "PE out of range": ((4, 3, 4, SHARED), INDEX),
    "no buffer": ((0, 3, 4, 0), BUFFER),
    "unaligned buffer": ((0, 3, 4, SHARED + 8), BUFFER),
    "NS buffer": ((0, 3, 4, SHARED + 0x1000), BUFFER),
    "no memory": ((0, 3, 4, 1 << 40), BUFFER),
}


@pytest.mark.parametrize(("x", "code"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments(x: tuple[int, ...], code: int) -> None:
    board = Board()
    assert board.boot(*x) == code
    assert (board.rmm.max_cpus != 0) is (code == OK)
    assert board.rmm.granules.is_delegable(0x8000_0000) is (code == OK)


def _patch(offset: int, *words: int) -> Callable[[], bytes]:
    def made() -> bytes:
        page = bytearray(manifest())
        struct.pack_into(f"<{len(words)}Q", page, offset, *words)
        return bytes(page)

    return made


def _banks(*banks: tuple[int, int]) -> Callable[[], bytes]:
    return lambda: manifest(banks)


PAGES: dict[str, tuple[Callable[[], bytes], int]] = {
    "version 0.2": (lambda: manifest(version=2), MANIFEST),
    "version 0.4": (lambda: manifest(version=4), OK),
    "version 1.3": (lambda: manifest(version=0x1_0003), MANIFEST),
    "version bit 31": (lambda: manifest(version=0x8000_0003), MANIFEST),
    "nothing": (lambda: bytes(4096), MANIFEST),
    "no banks": (_banks(), DATA),
    "wrong checksum": (_patch(32, 1), DATA),
    "changed bank": (_patch(64, 0x8000_1000), DATA),
    "banks below the buffer": (lambda: manifest(at=SHARED - 8), DATA),
    "banks at the end of the buffer": (lambda: manifest(at=SHARED + 4096 - 16), DATA),
    "unaligned banks": (lambda: manifest(at=SHARED + 68), DATA),
    "2^60 banks": (_patch(16, 1 << 60), DATA),
    "2^64 - 1 banks": (_patch(16, (1 << 64) - 1), DATA),
    "consoles outside": (_patch(40, 1, SHARED + 4096, -(1 + SHARED + 4096) & (1 << 64) - 1), DATA),
    "wrong console checksum": (_patch(56, 1), DATA),
    "no consoles": (_patch(40, 0, 0, 0), OK),
    "unaligned base": (_banks((0x8000_0800, 0x1000)), DATA),
    "unaligned size": (_banks((0x8000_0000, 0x1800)), DATA),
    "empty bank": (_banks((0x8000_0000, 0)), DATA),
    "overlap": (_banks((0x8000_0000, 0x2000), (0x8000_1000, 0x1000)), DATA),
    "descending": (_banks((0x9000_0000, 0x1000), (0x8000_0000, 0x1000)), DATA),
    "adjacent": (_banks((0x8000_0000, 0x1000), (0x8000_1000, 0x1000)), OK),
    "beyond all addresses": (_banks(((1 << 52) - 0x1000, 0x2000)), DATA),
    "wrap": (_banks(((1 << 64) - 0x1000, 0x1000)), DATA),
}


@pytest.mark.parametrize(("page", "code"), PAGES.values(), ids=PAGES)
def test_manifests(page: Callable[[], bytes], code: int) -> None:
    board = Board(page())
    assert board.boot() == code
    assert (board.rmm.max_cpus != 0) is (code == OK)


@pytest.mark.parametrize(("index", "code"), [(1, OK), (3, OK), (4, INDEX), ((1 << 64) - 1, INDEX)])
def test_warm_boot(index: int, code: int) -> None:
    board = Board()
    board.boot()
    held = board.rmm.attestation
    assert board.boot(index, 0, 0, 0) == code
    assert board.rmm.attestation is held


@pytest.mark.parametrize(
    ("fid", "answer"),
    [
        (smccc.ATTEST_GET_REALM_KEY, (unsigned(smccc.E_RMM_UNK),)),
        (smccc.ATTEST_GET_REALM_KEY, (0, 32)),
        (smccc.ATTEST_GET_PLAT_TOKEN, (unsigned(smccc.E_RMM_INVAL),)),
        (smccc.ATTEST_GET_PLAT_TOKEN, (unsigned(smccc.E_RMM_AGAIN),)),
        (smccc.ATTEST_GET_PLAT_TOKEN, (0, 0, 10)),
        (smccc.ATTEST_GET_PLAT_TOKEN, (0, 4097, 0)),
    ],
)
def test_a_platform_without_attestation_boots(fid: int, answer: tuple[int, ...]) -> None:
    board = Board()
    board.port.services[fid] = lambda *x: answer
    assert board.boot() == OK
    assert board.rmm.attestation is None


@pytest.mark.parametrize("scalar", [bytes(48), b"\xff" * 48])
def test_a_key_that_is_none(scalar: bytes) -> None:
    board = Board()

    def key(buffer: int, size: int, curve: int) -> tuple[int, ...]:
        board.port.bus.write(Pas.REALM, buffer, scalar)
        return (0, 48)

    board.port.services[smccc.ATTEST_GET_REALM_KEY] = key
    assert board.boot() == OK
    assert board.rmm.attestation is None
