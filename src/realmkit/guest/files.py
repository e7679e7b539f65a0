"""Reading the files that go into an initramfs, with bounds and with errors that name the file."""

import os
import stat
from pathlib import Path
from typing import Final

from realmkit.arch.errors import RealmkitError

MAX_FILE: Final = 256 << 20
"""Largest file in bytes: an initramfs lives in guest memory, next to what it is unpacked to."""

_KINDS: Final = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def kind(mode: int) -> str:
    """What a file of this mode is, in words."""
    return next((text for test, text in _KINDS if test(mode)), "a regular file")


def read_regular(path: Path, what: str) -> bytes:
    """Contents of a regular file, links followed; RealmkitError for anything else, or more than MAX_FILE bytes."""
    try:
        # Non-blocking: opening a named pipe must not wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise RealmkitError(f"cannot read {what} {path}: {error.strerror}") from error
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise RealmkitError(f"{what} {path} is {kind(state.st_mode)}: a regular file is needed")
        if state.st_size > MAX_FILE:
            raise RealmkitError(f"{what} {path} has {state.st_size} bytes: at most {MAX_FILE >> 20} MiB fit")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(MAX_FILE + 1)
    except OSError as error:
        raise RealmkitError(f"cannot read {what} {path}: {error.strerror}") from error
    finally:
        os.close(descriptor)
    if len(content) > MAX_FILE:
        raise RealmkitError(f"{what} {path} grows while it is read: at most {MAX_FILE >> 20} MiB fit")
    return content


def read_lines(path: Path, what: str) -> list[str]:
    """Lines of a UTF-8 text file; RealmkitError where it is not text."""
    try:
        return read_regular(path, what).decode().splitlines()
    except UnicodeDecodeError as error:
        raise RealmkitError(f"{what} {path} is not a text file: {error.reason} at byte {error.start}") from error
