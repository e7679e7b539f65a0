import gzip
import lzma
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest

from realmkit.arch.errors import RealmkitError
from realmkit.guest import compression
from realmkit.guest.compression import decompress

CONTENT = bytes(range(256)) * 40
ZSTD = shutil.which("zstd")
has_zstd = pytest.mark.skipif(ZSTD is None, reason="the zstd program is not installed")


def zstd(content: bytes) -> bytes:
    assert ZSTD is not None
    return subprocess.run([ZSTD, "-qc"], input=content, capture_output=True, check=True).stdout


@pytest.mark.parametrize(
    ("name", "packed"),
    [("a.ko", CONTENT), ("a.ko.xz", lzma.compress(CONTENT)), ("a.ko.gz", gzip.compress(CONTENT, mtime=0))],
)
def test_unpacks_by_the_suffix(name: str, packed: bytes) -> None:
    assert decompress(packed, name) == CONTENT


@has_zstd
def test_unpacks_zstd() -> None:
    assert decompress(zstd(CONTENT), "a.ko.zst") == CONTENT


@pytest.mark.parametrize("cut", [0, 1, 20, 100])
@pytest.mark.parametrize(("name", "packer"), [("a.ko.xz", lzma.compress), ("a.ko.gz", gzip.compress)])
def test_truncated_files_are_damaged(name: str, packer: Callable[[bytes], bytes], cut: int) -> None:
    packed = packer(CONTENT)
    with pytest.raises(RealmkitError, match=rf"module {name} is damaged"):
        decompress(packed[:cut], name)
    with pytest.raises(RealmkitError, match=rf"module {name} is damaged"):
        decompress(packed[:-1], name)


@pytest.mark.parametrize("name", ["a.ko.xz", "a.ko.gz", pytest.param("a.ko.zst", marks=has_zstd)])
def test_other_bytes_are_damaged(name: str) -> None:
    with pytest.raises(RealmkitError, match=rf"module {name} is damaged"):
        decompress(b"\x7fELF and so on", name)


@has_zstd
def test_truncated_zstd_is_damaged() -> None:
    with pytest.raises(RealmkitError, match=r"module a\.ko\.zst is damaged"):
        decompress(zstd(CONTENT)[:-1], "a.ko.zst")


@pytest.mark.parametrize("suffix", [".xz", ".gz", pytest.param(".zst", marks=has_zstd)])
def test_what_unpacks_to_too_much_is_refused(suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "MAX_MODULE", 1 << 20)
    packers: dict[str, Callable[[bytes], bytes]] = {".xz": lzma.compress, ".gz": gzip.compress, ".zst": zstd}
    packed = packers[suffix](bytes(8 << 20))
    with pytest.raises(RealmkitError, match="unpacks to more than 1 MiB"):
        decompress(packed, f"a.ko{suffix}")


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="Python has the decompressor itself")
def test_a_missing_decompressor_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RealmkitError, match=r"a\.ko\.zst is compressed with zstd.*install the zstd program"):
        decompress(b"\x28\xb5\x2f\xfd", "a.ko.zst")
