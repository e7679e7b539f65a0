import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realmkit.arch.errors import RealmkitError
from realmkit.guest.cpio import Entry, archive, directory, regular, symlink
from tests.guest.kit import read_cpio

NAMES = st.text(st.characters(codec="ascii", exclude_characters="/\0"), min_size=1, max_size=12).filter(
    lambda name: name != "TRAILER!!!"
)


def test_members_carry_type_permissions_and_contents_and_nothing_of_this_machine() -> None:
    members = read_cpio(
        archive(
            [
                regular("bin/tool", b"12345", 0o755),
                symlink("bin/sh", "tool"),
                directory("bin"),
                Entry("dev", stat.S_IFDIR | 0o755),
                Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
            ]
        )
    )
    assert list(members) == ["bin", "bin/sh", "bin/tool", "dev", "dev/console"]
    assert members["bin/tool"].content == b"12345"
    assert members["bin/tool"].mode == stat.S_IFREG | 0o755
    assert members["bin/sh"].content == b"tool"
    assert stat.S_ISLNK(members["bin/sh"].mode)
    assert members["dev/console"].device == (5, 1)
    assert {member.owner for member in members.values()} == {(0, 0)}
    assert {member.time for member in members.values()} == {0}
    assert len({member.inode for member in members.values()}) == len(members)


def test_directories_precede_what_they_hold_whatever_the_characters() -> None:
    names = list(read_cpio(archive([directory("a"), directory("a-b"), regular("a/z", b""), regular("a!x", b"")])))
    assert names.index("a") < names.index("a/z")


def test_the_order_of_the_entries_does_not_matter() -> None:
    entries = [directory("x"), regular("x/1", b"a"), regular("x/2", b"bb"), symlink("y", "x")]
    assert archive(entries) == archive(entries[::-1])


def test_names_of_one_file_store_it_once() -> None:
    members = read_cpio(
        archive([Entry(name, stat.S_IFREG | 0o755, b"same", group="g") for name in ("a", "b", "c")] + [directory("d")])
    )
    assert [members[name].content for name in "abc"] == [b"same", b"", b""]
    assert {members[name].inode for name in "abc"} == {members["a"].inode}
    assert [members[name].links for name in "abcd"] == [3, 3, 3, 2]
    assert members["d"].inode != members["a"].inode


@given(st.dictionaries(NAMES, st.binary(max_size=40), max_size=8))
def test_any_files_come_back(contents: dict[str, bytes]) -> None:
    members = read_cpio(archive([regular(name, content) for name, content in contents.items()]))
    assert {name: member.content for name, member in members.items()} == contents


@pytest.mark.parametrize("name", ["", "/etc", "a" * 4096, "a\0b"])
def test_names_the_kernel_would_not_unpack_are_refused(name: str) -> None:
    with pytest.raises(RealmkitError, match="not a name for an initramfs member"):
        archive([regular(name, b"")])


def test_two_entries_of_one_name_are_refused() -> None:
    with pytest.raises(RealmkitError, match="hold /a/b twice"):
        archive([regular("a/b", b""), directory("a"), regular("a/b", b"1")])
