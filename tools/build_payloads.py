"""Rebuild the prebuilt payloads and machine code from their sources, or check that they are what the sources build.

usage: build_payloads.py [--check]

Each payload directory has a Makefile with a variable OUT, the file to make. The tools are Debian's
gcc-aarch64-linux-gnu and binutils-x86-64-linux-gnu: other versions may give other bytes.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def payloads() -> list[tuple[Path, Path]]:
    """(directory with the Makefile, prebuilt file) of every payload."""
    found = []
    for base in ("src/realmkit", "examples", "tests"):
        for makefile in sorted((ROOT / base).glob("**/Makefile")):
            line = next((x for x in makefile.read_text().splitlines() if x.startswith("OUT ?=")), None)
            if line is not None:
                found.append((makefile.parent, (makefile.parent / line.split("=", 1)[1].strip()).resolve()))
    return found


def build(directory: Path, out: Path) -> None:
    """Run the Makefile of a payload."""
    subprocess.run(["make", "-s", "-B", f"OUT={out}"], cwd=directory, check=True)


def main(arguments: list[str]) -> int:
    """Entry point: the exit code."""
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    for tool in ("make", "aarch64-linux-gnu-gcc", "x86_64-linux-gnu-as"):
        if shutil.which(tool) is None:
            print(
                f"{tool} is not installed: apt-get install make gcc-aarch64-linux-gnu binutils-x86-64-linux-gnu",
                file=sys.stderr,
            )
            return 2
    differing = 0
    with tempfile.TemporaryDirectory() as scratch:
        for number, (directory, prebuilt) in enumerate(payloads()):
            name = prebuilt.relative_to(ROOT)
            if not arguments:
                build(directory, prebuilt)
                print(f"built {name}")
                continue
            out = Path(scratch) / f"{number}-{prebuilt.name}"
            build(directory, out)
            same = prebuilt.is_file() and out.read_bytes() == prebuilt.read_bytes()
            print(f"{'same' if same else 'DIFFERS'}: {name}")
            differing += not same
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
