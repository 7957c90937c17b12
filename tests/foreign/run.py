"""Suites that nobody here wrote, with our part in everything that they make.

    python3 noxfile.py -s foreign                     all four
    python3 noxfile.py -s foreign -- httpx requests   these

requests' and httpx's own tests run with our transports as default, Starlette's and FastAPI's with
`install()` called for every application. Their sources are fetched from the package index, in the
versions that the environment has, into a temporary folder. Each suite runs twice, without and with
our part (`fluxgate_by_default.py`): what fails only with it must be in `differences.toml`, with
its reason. What is there and doesn't fail is shown, to be taken out.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).parent
SUITES: dict[str, list[str]] = {  # pytest's options; httpx's suite has a server on a fixed port
    "requests": ["-n", "auto", "--dist", "loadfile"],
    "httpx": [],
    "starlette": ["-n", "auto", "--dist", "loadfile"],
    "fastapi": ["-n", "auto", "--dist", "loadfile"],
}


def fetch(suite: str, folder: Path) -> Path:
    """Unpack the sources of the installed version; the folder that they are in."""
    version = metadata.version(suite)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    options = ["--no-deps", "--no-binary", ":all:", "--dest", str(folder)]
    subprocess.run([*pip, *options, f"{suite}=={version}"], check=True)
    (archive,) = folder.glob(f"{suite}-*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    sources = folder / f"{suite}-{version}"
    if not (sources / "tests").is_dir():
        sys.exit(f"{archive.name} has no tests")
    return sources


def failures(suite: str, sources: Path, *, ours: bool) -> tuple[set[str], int]:
    """Run a suite, with our part or without; what failed, and how many tests there were."""
    report = sources.parent / f"{suite}-{'with' if ours else 'without'}.xml"
    plugin = ["-p", "fluxgate_by_default", "-p", "no:cacheprovider", "-o", "addopts="]
    output = ["-q", "--tb=short", f"--junitxml={report}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plugin, *output, *SUITES[suite], "tests"],
        cwd=sources,
        env={**os.environ, "PYTHONPATH": str(HERE), "FLUXGATE_FOREIGN": suite if ours else ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode not in (0, 1):  # neither passed nor failed: it could not run
        sys.exit(done.stdout)
    (sources.parent / f"{report.stem}.log").write_text(done.stdout)
    cases = list(ElementTree.parse(report).iter("testcase"))
    failed = {
        f"{case.get('classname')}::{case.get('name')}"
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    }
    return failed, len(cases)


def compare(suite: str, folder: Path, listed: dict[str, str]) -> bool:
    """Show how a suite fares with our part; whether all its differences are listed."""
    sources = fetch(suite, folder)
    before, count = failures(suite, sources, ours=False)
    after, _ = failures(suite, sources, ours=True)
    new = after - before
    known = {test for test in new for pattern in listed if re.fullmatch(pattern, test)}
    gone = {p for p in listed if not any(re.fullmatch(p, test) for test in new)}
    print(
        f"{sources.name}: {count} tests, {len(before)} fail without us, {len(new)} only with us, "
        f"{len(known)} of these as listed"
    )
    for test in sorted(new - known):
        print(f"  not listed: {test}")
    for pattern in sorted(gone):
        print(f"  listed, and no difference any more: {pattern}")
    for test in sorted(before - after):
        print(f"  passes only with us, by chance: {test}")
    if new - known:  # with pytest's account of them
        print((folder / f"{suite}-with.log").read_text()[-20_000:])
    return new == known


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("suites", nargs="*", help=f"of {', '.join(SUITES)}; all, by default")
    chosen = parser.parse_args().suites or list(SUITES)
    if unknown := [suite for suite in chosen if suite not in SUITES]:
        parser.error(f"no suite is called {', '.join(unknown)}; there are {', '.join(SUITES)}")
    differences = tomllib.loads((HERE / "differences.toml").read_text("utf-8"))
    good = True
    for suite in chosen:
        with tempfile.TemporaryDirectory() as folder:
            good &= compare(suite, Path(folder), differences.get(suite, {}))
    sys.exit(not good)


if __name__ == "__main__":
    main()
