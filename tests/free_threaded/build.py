"""Free-threaded CPython 3.13, built from Debian's source package into a folder.

    python tests/free_threaded/build.py ~/python3.13t
    PATH=~/python3.13t/bin:$PATH python3 noxfile.py -s prove-free-threaded

For machines without a `python3.13t`. It takes some minutes, 22 MB of download and 500 MB of disk,
and installs nothing outside that folder. It needs a C compiler, make, and the headers of what the
fleet and the tests use:

    apt-get install build-essential libssl-dev libsqlite3-dev zlib1g-dev libffi-dev
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from pathlib import Path

VERSION = "3.13.5"  # trixie's
ARCHIVE = f"python3.13_{VERSION}.orig.tar.xz"
SHA256 = "93e583f243454e6e9e4588ca2c2662206ad961659863277afcdb96801647d640"  # as in Debian's .dsc
POOL = "https://deb.debian.org/debian/pool/main/p/python3.13"
PACKAGES = "build-essential libssl-dev libsqlite3-dev zlib1g-dev libffi-dev"
CHECK = "import ctypes, sqlite3, ssl, sys, venv, zlib; sys.exit(sys._is_gil_enabled())"


def works(python: Path) -> bool:
    """Whether this is a whole interpreter that runs without the GIL."""
    try:
        return subprocess.run([python, "-I", "-c", CHECK], capture_output=True).returncode == 0
    except OSError:
        return False


def fetch(folder: Path, pool: str) -> Path:
    """Debian's archive of the source, checked."""
    archive = folder / ARCHIVE
    print(f"fetching {pool}/{ARCHIVE}", flush=True)
    try:
        with urllib.request.urlopen(f"{pool}/{ARCHIVE}", timeout=60) as answer:
            archive.write_bytes(answer.read())
    except (OSError, ValueError) as error:
        sys.exit(f"{pool}/{ARCHIVE} can't be fetched ({error}): name another mirror with --pool")
    check(archive)
    return archive


def check(archive: Path) -> None:
    """Nothing, or the end: an archive that isn't the one that Debian signed is not run."""
    if not archive.is_file():
        sys.exit(f"{archive} is no file")
    with archive.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != SHA256:
        sys.exit(f"{archive} is not Debian's {ARCHIVE}: its SHA-256 is {found}, not {SHA256}")


def build(archive: Path, room: Path, folder: Path, jobs: int) -> None:
    """Configure, compile, install; the output of each step is kept until the end."""
    with tarfile.open(archive) as opened:
        opened.extractall(room, filter="data")
    source = room / f"Python-{VERSION}"
    steps = (
        ["./configure", "--disable-gil", f"--prefix={folder}", "--with-ensurepip=install"],
        ["make", f"-j{jobs}"],
        ["make", "altinstall"],  # without the names `python3` and `pip3`
    )
    for step in steps:
        print(" ".join(step), flush=True)
        log = room / "step.log"
        with log.open("wb") as output:
            done = subprocess.run(step, cwd=source, stdout=output, stderr=subprocess.STDOUT)
        if done.returncode:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            sys.exit(f"{last}\n\n`{' '.join(step)}` failed, as above")


def main() -> None:
    """Build it, unless it is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where it is installed: FOLDER/bin/python3.13t")
    parser.add_argument("--archive", type=Path, metavar="FILE", help=f"a {ARCHIVE} that is here")
    parser.add_argument("--pool", default=POOL, help="where it is fetched (default: %(default)s)")
    cores = os.cpu_count() or 1
    parser.add_argument("--jobs", type=int, default=cores, help="for make (default: %(default)s)")
    given = parser.parse_args()
    folder: Path = given.folder.expanduser().resolve()
    python = folder / "bin" / "python3.13t"
    if works(python):
        print(f"{python} is there already")
        return
    lacking = [tool for tool in ("cc", "make") if shutil.which(tool) is None]
    if lacking:
        sys.exit(f"{' and '.join(lacking)} not on the PATH: apt-get install {PACKAGES}")
    if given.archive is not None:
        check(given.archive)
    with tempfile.TemporaryDirectory() as room:
        archive = given.archive or fetch(Path(room), given.pool)
        build(archive.resolve(), Path(room), folder, max(given.jobs, 1))
    if not works(python):
        sys.exit(
            f"{python} was built without a module that the tests need (ctypes, sqlite3, ssl or "
            f"zlib): apt-get install {PACKAGES}, delete {folder}, and run this again"
        )
    session = f"PATH={python.parent}:$PATH python3 noxfile.py -s prove-free-threaded"
    print(f"{python} is built; now: {session}")


if __name__ == "__main__":
    main()
