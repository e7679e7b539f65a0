"""``tools/fetch-guest``, without a network: what it decides, and what it says where it cannot fetch."""

import gzip
import json
import lzma
import os
import struct
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from realmkit.guest import build
from tests.guest.kit import BUSYBOX, make_module

TOOL = Path(__file__).resolve().parents[2] / "tools/fetch-guest"
RELEASE = "9.9.9+deb99-cloud-arm64"
IMAGE = bytes(56) + b"ARMd" + bytes(100)


def load_tool() -> Any:
    module = types.ModuleType("fetch_guest")
    exec(compile(TOOL.read_bytes(), str(TOOL), "exec"), module.__dict__)
    return module


fetch_guest = load_tool()


class Packages:
    """An archive as far as choosing a kernel needs it."""

    def __init__(self, packages: dict[str, str]) -> None:
        self.packages = packages

    def show(self, name: str) -> dict[str, str] | None:
        depends = self.packages.get(name)
        return None if depends is None else {"Package": name, "Depends": depends}

    def flavours(self) -> list[str]:
        return ["arm64", "arm64-16k"]


def run(*arguments: str | Path, path: str = "/nonexistent") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env={"PATH": path})


def unpacked(root: Path) -> Path:
    """Packages as they unpack."""
    modules = root / "usr/lib/modules" / RELEASE
    (modules / "kernel/drivers").mkdir(parents=True)
    (modules / "dtb").mkdir()
    (modules / "dtb/board.dtb").write_bytes(b"large")
    (modules / "System.map").write_bytes(b"large")
    (modules / "vmlinuz").write_bytes(IMAGE)
    (modules / "build").symlink_to("/usr/src/linux")
    (modules / "modules.builtin").write_text("kernel/virtio_console.ko\n")
    (modules / "kernel/drivers/virtio_mmio.ko.xz").write_bytes(lzma.compress(make_module(release=RELEASE)))
    (root / "usr/bin").mkdir()
    (root / "usr/bin/busybox").write_bytes(BUSYBOX)
    return root


def test_without_apt_it_names_every_file_to_provide(tmp_path: Path) -> None:
    done = run(tmp_path / "g")
    assert done.returncode == 2
    for word in ("apt-get is not on this machine", "Image ", "modules/ ", "busybox ", "VERSION ", str(tmp_path / "g")):
        assert word in done.stderr
    assert not (tmp_path / "g").exists()


def test_a_complete_directory_is_left_alone_and_other_options_fetch_again(tmp_path: Path) -> None:
    for name in ("Image", "busybox", "modules"):
        (tmp_path / name).write_text("")
    (tmp_path / "VERSION").write_text("1.2.3\n")
    (tmp_path / ".fetched").write_text(json.dumps({"suite": "sid", "flavour": "arm64-16k"}))
    wanted = ("--suite", "sid", "--flavour", "arm64-16k")
    assert run(tmp_path, *wanted).stdout == "1.2.3\n"
    assert run(tmp_path, "--suite", "trixie").returncode == 2
    assert run(tmp_path, *wanted, "--refresh").returncode == 2
    (tmp_path / "busybox").unlink()
    assert run(tmp_path, *wanted).returncode == 2


@pytest.mark.parametrize(
    "arguments", [(), ("d", "--suite", "a b"), ("d", "--flavour", "../x"), ("d", "--flavour", "-x")]
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).returncode == 2


def test_the_newest_kernel_is_the_one_that_the_metapackage_names() -> None:
    image = f"linux-image-{RELEASE}"
    meta = {"linux-image-cloud-arm64": f"linux-base (= 9), {image} (= 9.9.9-1)"}
    together = Packages({**meta, image: "kmod"})
    assert fetch_guest.kernel_packages(together, "sid", "cloud-arm64") == (RELEASE, [image])
    parts = [f"linux-{part}-{RELEASE}" for part in ("binary", "modules")]
    apart = Packages({**meta, image: f"kmod, {parts[0]} (= 9.9.9-1), {parts[1]} (= 9.9.9-1)"})
    assert fetch_guest.kernel_packages(apart, "sid", "cloud-arm64") == (RELEASE, [image, *parts])


def test_an_unknown_flavour_lists_the_known_ones() -> None:
    with pytest.raises(fetch_guest.Failed, match="sid has no kernel of flavour arm64-64k; it has: arm64, arm64-16k"):
        fetch_guest.kernel_packages(Packages({}), "sid", "arm64-64k")


@pytest.mark.parametrize(
    "content",
    [
        IMAGE,
        gzip.compress(IMAGE, mtime=0),
        b"MZ\0\0zimg"
        + struct.pack("<II", 64, len(gzip.compress(IMAGE, mtime=0)))
        + bytes(48)
        + gzip.compress(IMAGE, mtime=0)
        + b"rest",
    ],
)
def test_the_image_is_raw_whatever_it_came_in(content: bytes) -> None:
    assert fetch_guest.raw_image(content) == IMAGE


def test_other_kernels_are_refused() -> None:
    with pytest.raises(fetch_guest.Failed, match="not an arm64 Image"):
        fetch_guest.raw_image(b"\x7fELF" + bytes(100))


def test_what_it_leaves_is_what_an_initramfs_is_made_from(tmp_path: Path) -> None:
    tree, out = unpacked(tmp_path / "tree"), tmp_path / "out"
    fetch_guest.place(tree, RELEASE, out)
    assert (out / "Image").read_bytes() == IMAGE
    assert (out / "VERSION").read_text() == f"{RELEASE}\n"
    assert os.access(out / "busybox", os.X_OK)
    assert {path.name for path in (out / "modules").rglob("*") if path.is_file()} == {
        "modules.builtin",
        "virtio_mmio.ko.xz",
    }
    assert [module.name for module in build(out).selection.modules] == ["virtio_mmio"]


@pytest.mark.parametrize("name", ["usr/bin/busybox", f"usr/lib/modules/{RELEASE}/vmlinuz"])
def test_packages_of_another_layout_are_named(tmp_path: Path, name: str) -> None:
    tree = unpacked(tmp_path / "tree")
    (tree / name).unlink()
    with pytest.raises(fetch_guest.Failed, match=r"fetched packages hold no (busybox|kernel)"):
        fetch_guest.place(tree, RELEASE, tmp_path / "out")
