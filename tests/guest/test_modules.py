import lzma
import os
from pathlib import Path

import pytest

from realmkit.arch.errors import RealmkitError
from realmkit.guest.modules import ModuleTree
from tests.guest.kit import RELEASE, make_guest, make_module


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_guest(tmp_path) / "modules"


def names(tree: Path, *wanted: str, required: tuple[str, ...] = ()) -> list[str]:
    return [module.name for module in ModuleTree(tree).select(wanted, required).modules]


def test_dependencies_of_modinfo_load_first(tree: Path) -> None:
    assert names(tree, "arm_cca_guest", "virtio_mmio") == ["configfs", "tsm_report", "arm_cca_guest", "virtio_mmio"]


def test_dashes_and_underscores_are_one_name(tree: Path) -> None:
    assert names(tree, "virtio-rng") == names(tree, "virtio_rng") == ["virtio_rng"]


def test_modules_dep_decides_where_there_is_one(tree: Path) -> None:
    (tree / "modules.dep").write_text(
        "kernel/drivers/virtio_blk.ko: kernel/drivers/unneeded.ko kernel/drivers/virt/configfs.ko\n"
        "kernel/drivers/unneeded.ko: kernel/drivers/virt/configfs.ko\n"
        "kernel/drivers/virt/configfs.ko:\n"
    )
    assert names(tree, "virtio_blk") == ["configfs", "unneeded", "virtio_blk"]


def test_modules_that_modules_dep_does_not_know_have_their_own_dependencies(tree: Path) -> None:
    (tree / "modules.dep").write_text("kernel/drivers/virtio_blk.ko:\n")
    assert names(tree, "tsm_report") == ["configfs", "tsm_report"]


def test_built_in_ones_are_left_out_as_wanted_and_as_dependencies(tree: Path) -> None:
    with (tree / "modules.builtin").open("a") as file:
        file.write("kernel/fs/configfs/configfs.ko\n")
    selection = ModuleTree(tree).select(("arm_cca_guest", "virtio-console"))
    assert [module.name for module in selection.modules] == ["tsm_report", "arm_cca_guest"]
    assert selection.builtin == ("virtio_console",)


def test_a_wanted_one_may_be_missing_and_a_required_one_not(tree: Path) -> None:
    assert ModuleTree(tree).select(("virtio_net",)).missing == ("virtio_net",)
    with pytest.raises(RealmkitError, match=r"no module 'virtio_bkl'.*did you mean virtio_blk"):
        ModuleTree(tree).select((), ("virtio_bkl",))


def test_a_missing_dependency_is_an_error_that_names_both(tree: Path) -> None:
    (tree / "kernel/drivers/virt/tsm_report.ko").unlink()
    with pytest.raises(RealmkitError, match=r"arm_cca_guest depends on tsm_report, which .* does not have"):
        names(tree, "arm_cca_guest")


def test_a_circle_is_an_error_that_shows_it(tree: Path) -> None:
    (tree / "kernel/drivers/virt/configfs.ko").write_bytes(make_module("tsm-report"))
    with pytest.raises(RealmkitError, match="tsm_report -> configfs -> tsm_report"):
        names(tree, "tsm_report")


def test_a_chain_without_end_is_an_error(tree: Path) -> None:
    for number in range(150):
        (tree / f"kernel/m{number}.ko").write_bytes(make_module(f"m{number + 1}"))
    with pytest.raises(RealmkitError, match="m0 depends on others 100 deep"):
        names(tree, "m0")


def test_compressed_modules_are_unpacked(tree: Path) -> None:
    plain = tree / "kernel/drivers/virtio_blk.ko"
    content = plain.read_bytes()
    plain.with_name("virtio_blk.ko.xz").write_bytes(lzma.compress(content))
    plain.unlink()
    (module,) = ModuleTree(tree).select(("virtio_blk",)).modules
    assert module.content == content
    assert module.path == "kernel/drivers/virtio_blk.ko.xz"


def test_a_truncated_module_is_named(tree: Path) -> None:
    path = tree / "kernel/drivers/virtio_blk.ko"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RealmkitError, match=r"virtio_blk\.ko is truncated"):
        names(tree, "virtio_blk")


def test_modules_that_are_not_needed_may_be_anything(tree: Path) -> None:
    (tree / "kernel/drivers/unneeded.ko").write_bytes(b"junk")
    assert names(tree, "virtio_blk") == ["virtio_blk"]


def test_two_modules_of_one_name_are_refused(tree: Path) -> None:
    (tree / "kernel/virtio_rng.ko.xz").write_bytes(b"")
    with pytest.raises(RealmkitError, match=r"virtio_rng is in .* twice: .*ko\.xz"):
        ModuleTree(tree)


def test_a_directory_without_modules_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RealmkitError, match="not a kernel's module tree"):
        ModuleTree(tmp_path)


def test_a_damaged_modules_dep_is_named_with_its_line(tree: Path) -> None:
    (tree / "modules.dep").write_text("kernel/a.ko:\n\nnonsense\n")
    with pytest.raises(RealmkitError, match=r"modules\.dep line 3"):
        ModuleTree(tree)


def test_lists_that_are_not_text_or_not_files_are_named(tree: Path) -> None:
    (tree / "modules.builtin").write_bytes(b"\xff\xfe\0")
    with pytest.raises(RealmkitError, match=r"modules\.builtin is not a text file"):
        ModuleTree(tree)
    (tree / "modules.builtin").unlink()
    (tree / "modules.builtin").mkdir()
    with pytest.raises(RealmkitError, match=r"modules\.builtin is a directory"):
        ModuleTree(tree)


def test_module_files_that_are_pipes_or_looping_links_are_named_and_do_not_hang(tree: Path) -> None:
    os.mkfifo(tree / "kernel/pipe.ko")
    (tree / "kernel/loop.ko").symlink_to("loop.ko")
    with pytest.raises(RealmkitError, match=r"pipe\.ko is a named pipe"):
        names(tree, "pipe")
    with pytest.raises(RealmkitError, match=r"loop\.ko: .*(symbolic links|Too many levels)"):
        names(tree, "loop")


def test_links_to_directories_do_not_lead_out_or_around(tree: Path) -> None:
    (tree / "build").symlink_to("..")
    (tree / "kernel/again").symlink_to(".")
    assert names(tree, "virtio_blk") == ["virtio_blk"]


def test_modules_of_two_kernels_are_refused(tree: Path) -> None:
    modules = ModuleTree(tree)
    assert modules.release(modules.select(("virtio_blk", "virtio_rng"))) == RELEASE
    (tree / "kernel/drivers/virtio-rng.ko").write_bytes(make_module(release="1.0"))
    modules = ModuleTree(tree)
    with pytest.raises(RealmkitError, match=rf"different kernels: virtio_rng for 1\.0, others for {RELEASE}"):
        modules.release(modules.select(("virtio_blk", "virtio_rng")))
