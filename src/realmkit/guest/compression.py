"""Decompression of kernel modules: ``.ko.xz``, ``.ko.gz``, ``.ko.zst``, bounded in what they may unpack to."""

import gzip
import importlib
import lzma
import shutil
import subprocess
import tempfile
import zlib
from io import BytesIO
from typing import IO, Final

from realmkit.arch.errors import RealmkitError

SUFFIXES: Final = ("", ".xz", ".gz", ".zst")
"""What may follow ``.ko``."""
MAX_MODULE: Final = 64 << 20
"""Largest module in bytes, unpacked."""


def decompress(content: bytes, name: str) -> bytes:
    """A module's ELF file, from the contents of the file ``name``, whose suffix decides.

    RealmkitError where the data is damaged or truncated, or the machine lacks the decompressor.
    """
    suffix = name.rpartition(".ko")[2]
    try:
        if suffix == ".xz":
            with lzma.open(BytesIO(content), format=lzma.FORMAT_XZ) as stream:
                unpacked = _bounded(stream, name)
        elif suffix == ".gz":
            with gzip.open(BytesIO(content)) as stream:
                unpacked = _bounded(stream, name)
        elif suffix == ".zst":
            unpacked = _zstd(content, name)
        else:
            unpacked = content
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise RealmkitError(f"module {name} is damaged: {error}") from error
    if len(unpacked) > MAX_MODULE:
        raise RealmkitError(f"module {name} unpacks to more than {MAX_MODULE >> 20} MiB")
    return unpacked


def _bounded(stream: IO[bytes] | gzip.GzipFile, name: str) -> bytes:
    unpacked = stream.read(MAX_MODULE + 1)
    if not unpacked:
        raise RealmkitError(f"module {name} is damaged: nothing is in it")
    return unpacked


def _zstd(content: bytes, name: str) -> bytes:
    """Python 3.14 has the decompressor; before that it is the zstd program's."""
    try:
        module = importlib.import_module("compression.zstd")
    except ImportError:
        return _zstd_program(content, name)
    try:
        with module.open(BytesIO(content)) as stream:
            return _bounded(stream, name)
    except module.ZstdError as error:
        raise RealmkitError(f"module {name} is damaged: {error}") from error


def _zstd_program(content: bytes, name: str) -> bytes:
    program = shutil.which("zstd")
    if program is None:
        raise RealmkitError(
            f"module {name} is compressed with zstd, and this machine has no decompressor for it: "
            "install the zstd program, use Python 3.14, or decompress the modules first (unzstd)"
        )
    # Files on both ends and a bounded read: what it unpacks to may be far more than memory holds.
    with tempfile.TemporaryFile() as packed, tempfile.TemporaryFile() as complaint:
        packed.write(content)
        packed.seek(0)
        with subprocess.Popen(  # noqa: S603 (a fixed command line)
            [program, "-dcq"], stdin=packed, stdout=subprocess.PIPE, stderr=complaint
        ) as process:
            assert process.stdout is not None
            unpacked = process.stdout.read(MAX_MODULE + 1)
            if len(unpacked) > MAX_MODULE:
                process.kill()
                return unpacked
            process.stdout.close()
            status = process.wait()
        if status != 0:
            complaint.seek(0)
            reason = complaint.read(4096).decode(errors="replace").strip().splitlines()
            raise RealmkitError(f"module {name} is damaged: {reason[-1] if reason else 'zstd gives up'}")
    return unpacked
