import os
import socket
import stat
from pathlib import Path

import pytest

from realmkit.arch.errors import RealmkitError
from realmkit.guest import files, tree
from realmkit.guest.cpio import Entry, archive, directory, regular, symlink
from realmkit.guest.tree import read_tree, resolve
from tests.guest.kit import read_cpio


def by_name(root: Path) -> dict[str, Entry]:
    return {entry.name: entry for entry in read_tree(root)}


def test_files_links_and_permissions_are_kept(tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "bin").symlink_to("usr/bin")
    (tmp_path / "dangling").symlink_to("/nowhere/at all")
    tool = tmp_path / "usr/bin/tool"
    tool.write_bytes(b"x")
    tool.chmod(0o4755)
    entries = by_name(tmp_path)
    assert set(entries) == {"usr", "usr/bin", "usr/bin/tool", "bin", "dangling"}
    assert entries["usr/bin/tool"].mode == stat.S_IFREG | 0o4755
    assert entries["bin"].content == b"usr/bin"
    assert entries["dangling"].content == b"/nowhere/at all"


def test_hard_links_are_one_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1234")
    os.link(tmp_path / "a", tmp_path / "b")
    members = read_cpio(archive(read_tree(tmp_path)))
    assert members["a"].inode == members["b"].inode
    assert members["a"].content + members["b"].content == b"1234"


def test_what_init_mounts_over_and_module_trees_are_left_out(tmp_path: Path) -> None:
    for name in ("proc/1", "sys/a", "dev/pts", "lib/modules/9.9", "home/dev/x"):
        (tmp_path / name).mkdir(parents=True)
    os.mkfifo(tmp_path / "dev/initctl")
    assert set(by_name(tmp_path)) == {"proc", "sys", "dev", "lib", "lib/modules", "home", "home/dev", "home/dev/x"}


def test_links_in_circles_are_packed_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "up").symlink_to("..")
    assert set(by_name(tmp_path)) == {"loop", "up"}


def test_pipes_and_sockets_are_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RealmkitError, match="pipe is a named pipe"):
        read_tree(tmp_path)
    (tmp_path / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(tmp_path)  # socket paths are short
        try:
            server.bind("socket")
        finally:
            os.chdir(here)
        with pytest.raises(RealmkitError, match="socket is a socket"):
            read_tree(tmp_path)


def test_device_nodes_are_named(tmp_path: Path) -> None:
    try:
        os.mknod(tmp_path / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("making device nodes needs privilege")
    with pytest.raises(RealmkitError, match=r"null is a character device.*devtmpfs"):
        read_tree(tmp_path)


def test_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        (tmp_path / f"{number}").write_bytes(bytes(100))
    monkeypatch.setattr(tree, "MAX_TREE", 399)
    with pytest.raises(RealmkitError, match="MiB of files"):
        read_tree(tmp_path)
    monkeypatch.setattr(tree, "MAX_TREE", 400)
    monkeypatch.setattr(tree, "MAX_ENTRIES", 3)
    with pytest.raises(RealmkitError, match="more than 3 files"):
        read_tree(tmp_path)


def test_a_huge_file_is_refused_without_reading_it(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(RealmkitError, match=rf"huge has {1 << 40} bytes: at most {files.MAX_FILE >> 20} MiB fit"):
        read_tree(tmp_path)


def test_names_of_any_bytes_survive(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe")).write_bytes(b"1")
    content = archive(read_tree(tmp_path))
    assert b"\xff\xfe\0" in content


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("bin/sh", "usr/bin/dash"),
        ("a/sh", "usr/bin/dash"),
        ("../bin/./sh", "usr/bin/dash"),
        ("bin", "usr/bin"),
        ("bin/none", None),
        ("gone/x", None),
    ],
)
def test_links_resolve_inside_the_tree(name: str, found: str | None) -> None:
    entries = {
        entry.name: entry
        for entry in (
            directory("usr"),
            directory("usr/bin"),
            regular("usr/bin/dash", b""),
            symlink("usr/bin/sh", "dash"),
            symlink("bin", "usr/bin"),
            symlink("a", "/usr/../../bin"),
            symlink("gone", "/nowhere"),
        )
    }
    entry = resolve(entries, name)
    assert (entry.name if entry else None) == found


def test_a_loop_of_links_is_an_error() -> None:
    with pytest.raises(RealmkitError, match="/x/y is a loop of symbolic links"):
        resolve({"x": symlink("x", "z"), "z": symlink("z", "x")}, "x/y")
