"""The documentation shows real output."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["README.md", "docs/tour.md"])
def test_documented_output_is_what_the_commands_print(name: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "update_docs.py", "--check", name],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
