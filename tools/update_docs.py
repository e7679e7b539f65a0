"""Run the commands that the documentation shows and put their real output there, or check that it still is.

usage: update_docs.py [--check] [FILE.md ...]

A block that starts with ```console holds commands (lines with "$ ", continued by a backslash) and their output. All
blocks of a file run in one scratch directory, with the repository's examples as examples/. Blocks of ```text are left
alone.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = ("README.md", "docs/tour.md")
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(command: str, directory: Path) -> str:
    """Output of a command line as a terminal would show it, without wall-clock values."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "120"}
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    lines = (line.rstrip() for line in done.stdout.splitlines())
    return "".join(f"{line}\n" for line in lines)


def commands(block: str) -> list[str]:
    """The command lines of a block, continuation lines included."""
    found: list[str] = []
    going_on = False
    for line in block.splitlines():
        if going_on:
            found[-1] += "\n" + line
        elif line.startswith("$ "):
            found.append(line[2:])
        else:
            continue
        going_on = line.endswith("\\")
    return found


def refresh(text: str) -> str:
    """The text with fresh output in every console block."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        shutil.copytree(ROOT / "examples", directory / "examples")

        def replace(match: re.Match[str]) -> str:
            parts = (f"$ {command}\n{run(command, directory)}" for command in commands(match[1]))
            return "```console\n" + "".join(parts) + "```"

        return _BLOCK.sub(replace, text)


def main(arguments: list[str]) -> int:
    """Entry point: the exit code."""
    check = "--check" in arguments
    stale = 0
    for name in [a for a in arguments if a != "--check"] or FILES:
        path = ROOT / name
        before = path.read_text()
        after = refresh(before)
        if after == before:
            print(f"{name}: current")
        elif check:
            print(f"{name}: STALE, run tools/update_docs.py")
            for old, new in zip(before.splitlines(), after.splitlines(), strict=False):
                if old != new:
                    print(f"  documented: {old}\n  real:       {new}")
                    break
            stale += 1
        else:
            path.write_text(after)
            print(f"{name}: updated")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
