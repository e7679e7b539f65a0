"""Synthetic guests: ELF files, module trees, directories; and a reader of cpio archives that is not the writer."""

import struct
from dataclasses import dataclass
from pathlib import Path

RELEASE = "9.9.9-test"


def make_elf(
    sections: dict[str, bytes] | None = None, *, kind: int = 1, machine: int = 183, segments: tuple[int, ...] = ()
) -> bytes:
    """A 64-bit little-endian ELF file: ``kind`` 1 is relocatable, 2 an executable; ``segments`` are p_type values."""
    bodies = {"": b"", **(sections or {}), ".shstrtab": b""}
    names, offsets = bytearray(), {}
    for name in bodies:
        offsets[name] = len(names)
        names += name.encode() + b"\0"
    bodies[".shstrtab"] = bytes(names)
    out = bytearray(64)
    program_offset = len(out)
    for segment in segments:
        out += struct.pack("<IIQQQQQQ", segment, 4, 0, 0, 0, 0, 0, 0)
    headers = []
    for name, body in bodies.items():
        headers.append(struct.pack("<IIQQQQIIQQ", offsets[name], 1, 0, 0, len(out), len(body), 0, 0, 1, 0))
        out += body
    section_offset = len(out)
    out += b"".join(headers)
    out[:64] = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01",
        kind,
        machine,
        1,
        0,
        program_offset if segments else 0,
        section_offset,
        0,
        64,
        56,
        len(segments),
        64,
        len(headers),
        len(headers) - 1,
    )
    return bytes(out)


def make_module(depends: str = "", release: str = RELEASE, padding: int = 0) -> bytes:
    """A kernel module as far as its ``.modinfo`` goes."""
    info = f"license=GPL\0depends={depends}\0vermagic={release} SMP preempt mod_unload aarch64\0"
    return make_elf({".text": bytes(padding), ".modinfo": info.encode()})


BUSYBOX = make_elf({".text": bytes(100)}, kind=2, segments=(1, 1))


def make_guest(root: Path) -> Path:
    """A directory like the ones that fetch-guest makes, with a few modules, uncompressed."""
    drivers = root / "modules/kernel/drivers"
    (drivers / "virt").mkdir(parents=True)
    (root / "busybox").write_bytes(BUSYBOX)
    (root / "VERSION").write_text(f"{RELEASE}\n")
    (root / "modules/modules.builtin").write_text("kernel/drivers/char/virtio_console.ko\n")
    for name, depends in (
        ("virtio_mmio", ""),
        ("virtio_blk", ""),
        ("virtio-rng", ""),
        ("virt/configfs", ""),
        ("virt/tsm_report", "configfs"),
        ("virt/arm-cca-guest", "tsm_report"),
        ("unneeded", ""),
    ):
        (drivers / f"{name}.ko").write_bytes(make_module(depends))
    return root


@dataclass(frozen=True)
class Member:
    inode: int
    mode: int
    owner: tuple[int, int]
    links: int
    time: int
    device: tuple[int, int]
    content: bytes


def read_cpio(archive: bytes) -> dict[str, Member]:
    """Members by name, in the order of the archive."""
    members: dict[str, Member] = {}
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        inode, mode, uid, gid, links, time, size, _, _, major, minor, name_size, check = fields
        assert check == 0
        name = archive[at + 110 : at + 110 + name_size]
        assert name.endswith(b"\0")
        data = -(-(at + 110 + name_size) // 4) * 4
        at = -(-(data + size) // 4) * 4
        if name == b"TRAILER!!!\0":
            assert not any(archive[at:])
            return members
        text = name[:-1].decode()
        assert text not in members
        members[text] = Member(inode, mode, (uid, gid), links, time, (major, minor), archive[data : data + size])
