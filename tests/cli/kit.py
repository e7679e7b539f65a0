"""Runs the command line as a user does, and tiny Realm programs."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

POWER_OFF = (0x52B0_8000, 0x7280_0100, 0xD400_0003)
"""mov w0, #0x84000000; movk w0, #8; smc #0 (PSCI SYSTEM_OFF)."""
LOOP = (0x1400_0000,)
"""b ."""
CHATTER = (0xD2A0_2001, 0xF2C0_0021, 0x5280_6022, 0xB900_3022, 0x5280_0F00, 0xB900_0020, 0x17FF_FFFF)
"""The console's address in X1 (33-bit IPA space), UARTCR = 0x301, and then "x" for ever."""
CRASH = (0x0000_0000,)
"""udf #0, with no vectors: the vector table at VBAR_EL1 = 0 is not RAM."""


@dataclass(frozen=True)
class Finished:
    """A run of ``realmkit`` that has ended."""

    code: int
    out: str
    err: str


def realmkit(*arguments: str | Path, timeout: float = 120) -> Finished:
    """Run ``realmkit`` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", "from realmkit.cli.main import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def flat(path: Path, words: Sequence[int]) -> Path:
    """A flat image of instruction words."""
    path.write_bytes(b"".join(word.to_bytes(4, "little") for word in words))
    return path


def load(path: Path) -> Any:
    """A JSON file."""
    return json.loads(path.read_text())
