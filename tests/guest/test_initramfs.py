import gzip
import json
import lzma
import os
import stat
from pathlib import Path

import pytest

from realmkit.arch.errors import RealmkitError
from realmkit.guest import build
from tests.guest.kit import BUSYBOX, RELEASE, make_elf, make_guest, make_module, read_cpio


@pytest.fixture
def guest(tmp_path: Path) -> Path:
    return make_guest(tmp_path / "guest")


def make_root(root: Path) -> Path:
    """A root directory whose /bin is a link, with its modules where a distribution has them."""
    (root / "usr/bin").mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    (root / "usr/bin/dash").write_bytes(BUSYBOX)
    (root / "usr/bin/sh").symlink_to("dash")
    (root / "etc").mkdir()
    (root / "etc/motd").write_text("hello")
    tree = root / "lib/modules" / RELEASE
    tree.mkdir(parents=True)
    for name in ("virtio_mmio", "virtio_blk", "unneeded"):
        (tree / f"{name}.ko").write_bytes(make_module())
    return root


def test_a_guest_directory_becomes_busybox_init_and_the_needed_modules(guest: Path) -> None:
    made = build(guest)
    members = read_cpio(made.content)
    assert members["init"].mode == stat.S_IFREG | 0o755
    assert members["bin/busybox"].content == BUSYBOX
    assert members["bin/sh"].content == b"busybox"
    assert members["dev/console"].device == (5, 1)
    order = members["realmkit/order"].content.decode().split()
    assert order == ["virtio_mmio", "virtio_blk", "virtio_rng", "configfs", "tsm_report", "arm_cca_guest"]
    assert {name for name in members if name.endswith(".ko")} == {f"realmkit/modules/{name}.ko" for name in order}
    assert members["realmkit/release"].content.decode() == f"{RELEASE}\n"
    assert "script" not in members
    assert made.selection.builtin == ("virtio_console",)
    assert made.notes == ()


def test_every_directory_a_member_is_in_is_a_member(guest: Path) -> None:
    members = read_cpio(build(guest, selftest=True).content)
    for name in members:
        parent = name.rpartition("/")[0]
        assert not parent or stat.S_ISDIR(members[parent].mode)


def test_the_same_files_give_the_same_bytes(guest: Path, tmp_path: Path) -> None:
    other = make_guest(tmp_path / "other")
    os.utime(other / "busybox", (1, 1))
    (other / "busybox").chmod(0o640)
    assert build(guest).content == build(other).content
    assert build(guest, compress=True).content == build(other, compress=True).content


def test_compressed_modules_give_the_same_initramfs(guest: Path) -> None:
    plain = build(guest).content
    for path in list(guest.rglob("*.ko")):
        path.with_name(f"{path.name}.xz").write_bytes(lzma.compress(path.read_bytes()))
        path.unlink()
    assert build(guest).content == plain


def test_gzip_holds_the_same_archive(guest: Path) -> None:
    plain, packed = build(guest), build(guest, compress=True)
    assert gzip.decompress(packed.content) == plain.content == packed.unpacked
    assert packed.pages < plain.pages


def test_a_script_is_executable_whatever_it_was(guest: Path, tmp_path: Path) -> None:
    script = tmp_path / "s"
    script.write_text("#!/bin/sh\necho hello\n")
    member = read_cpio(build(guest, script=script).content)["script"]
    assert member.mode == stat.S_IFREG | 0o755
    assert member.content == script.read_bytes()


def test_the_selftest_brings_its_program(guest: Path) -> None:
    members = read_cpio(build(guest, selftest=True).content)
    assert b"/realmkit/selftest" in members["script"].content
    assert members["realmkit/selftest"].mode == stat.S_IFREG | 0o755
    assert members["realmkit/selftest"].content[:4] == b"\x7fELF"


def test_more_modules_on_demand(guest: Path) -> None:
    assert "realmkit/modules/unneeded.ko" in read_cpio(build(guest, modules=["unneeded"]).content)
    with pytest.raises(RealmkitError, match="no module 'virtio_net'"):
        build(guest, modules=["virtio_net"])


def test_a_kernel_without_cca_drivers_is_noted(guest: Path) -> None:
    (guest / "modules/kernel/drivers/virt/arm-cca-guest.ko").unlink()
    made = build(guest)
    assert made.selection.missing == ("arm_cca_guest",)
    assert "this kernel has no arm_cca_guest" in made.notes
    assert any("cannot attest" in note for note in made.notes)


def test_the_report_says_what_is_inside(guest: Path) -> None:
    report = json.loads(json.dumps(build(guest, selftest=True).report()))
    assert report["release"] == RELEASE
    assert [module["name"] for module in report["modules"]][-1] == "arm_cca_guest"
    assert {"/init", "/script", "/bin/busybox", "/realmkit/report"} <= {file["name"] for file in report["files"]}
    assert report["pages"] == -(-report["size"] // 4096)


def test_a_root_directory_is_packed_whole_with_init_and_needed_modules(tmp_path: Path) -> None:
    made = build(make_root(tmp_path))
    members = read_cpio(made.content)
    assert members["etc/motd"].content == b"hello"
    assert members["bin"].content == b"usr/bin"
    assert {name for name in members if name.endswith(".ko")} == {
        "realmkit/modules/virtio_mmio.ko",
        "realmkit/modules/virtio_blk.ko",
    }
    assert made.release == RELEASE
    assert "init" in members


def test_a_root_directory_may_have_no_modules_but_not_several_kernels(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    (root / "lib/modules/other").mkdir()
    with pytest.raises(RealmkitError, match=rf"modules of several kernels \({RELEASE}, other\)"):
        build(root)
    (root / "lib/modules").rename(root / "lib/x")
    assert any("no /lib/modules/VERSION" in note for note in build(root).notes)
    with pytest.raises(RealmkitError, match="to take module 'loop' from"):
        build(root, modules=["loop"])


def test_what_a_root_directory_loses_is_noted(tmp_path: Path) -> None:
    root = make_root(tmp_path / "root")
    (root / "init").write_text("theirs")
    (root / "script").write_text("#!/bin/sh\n")
    notes = build(root).notes
    assert "/init of the directory is replaced" in notes
    assert "/init will run the /script of the directory" in notes
    script = tmp_path / "s"
    script.write_text("true\n")
    assert "/script of the directory is replaced" in build(root, script=script).notes
    (root / "realmkit").mkdir()
    with pytest.raises(RealmkitError, match="has a /realmkit of its own"):
        build(root)


def test_a_shell_that_is_missing_looping_or_of_another_machine_is_named(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    (root / "usr/bin/dash").write_bytes(make_elf(kind=2, machine=62))
    with pytest.raises(RealmkitError, match="bin/sh is an ELF file of another architecture"):
        build(root)
    (root / "usr/bin/dash").unlink()
    with pytest.raises(RealmkitError, match=r"neither a guest directory .* nor a root directory: it has no /bin/sh"):
        build(root)
    (root / "usr/bin/sh").unlink()
    (root / "usr/bin/sh").symlink_to("/bin/sh")
    with pytest.raises(RealmkitError, match="/bin/sh is a loop"):
        build(root)


@pytest.mark.parametrize("name", ["modules", "VERSION"])
def test_a_guest_directory_with_a_part_missing_names_it(guest: Path, name: str) -> None:
    (guest / name).rename(guest.parent / "away")
    with pytest.raises(RealmkitError, match=f"has no {name}: a guest directory holds"):
        build(guest)


@pytest.mark.parametrize("text", ["", "\n", "a\nb\n", "x" * 201])
def test_a_version_that_is_none_is_named(guest: Path, text: str) -> None:
    (guest / "VERSION").write_text(text)
    with pytest.raises(RealmkitError, match="VERSION is not the release of a kernel"):
        build(guest)


def test_modules_of_another_kernel_are_named(guest: Path) -> None:
    (guest / "VERSION").write_text("1.2.3\n")
    with pytest.raises(RealmkitError, match=rf"the modules are for {RELEASE}, its kernel is 1\.2\.3"):
        build(guest)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (make_elf(kind=2, segments=(1, 3)), "needs shared libraries"),
        (make_elf(kind=2, machine=62), "of another architecture"),
        (b"#!/bin/sh\n", "is not an ELF file"),
        (BUSYBOX[:-10], "is truncated"),
    ],
)
def test_a_busybox_that_would_not_run_is_named(guest: Path, content: bytes, message: str) -> None:
    (guest / "busybox").write_bytes(content)
    with pytest.raises(RealmkitError, match=f"busybox .* {message}"):
        build(guest)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"#!/bin/sh\r\necho\r\n", "DOS line ends"),
        (make_elf(kind=2, machine=62), "of another architecture"),
    ],
)
def test_a_script_that_would_not_run_is_named(guest: Path, tmp_path: Path, content: bytes, message: str) -> None:
    script = tmp_path / "s"
    script.write_bytes(content)
    with pytest.raises(RealmkitError, match=f"script .* {message}"):
        build(guest, script=script)


def test_script_and_selftest_exclude_each_other(guest: Path) -> None:
    with pytest.raises(RealmkitError, match="exclude each other"):
        build(guest, script=guest / "VERSION", selftest=True)


def test_sources_that_are_no_directory_are_named(guest: Path, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for source in (tmp_path / "none", guest / "busybox", tmp_path / "loop"):
        with pytest.raises(RealmkitError, match=f"{source} is not a directory"):
            build(source)


@pytest.mark.parametrize("name", ["init", "script"])
def test_directories_in_the_place_of_our_files_are_named(tmp_path: Path, name: str) -> None:
    root = make_root(tmp_path)
    (root / name).mkdir()
    with pytest.raises(RealmkitError, match=f"/{name} of the directory is a directory"):
        build(root, selftest=True)
