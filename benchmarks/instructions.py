"""Instructions of a call, counted by valgrind's callgrind: quiet where a timing isn't.

    python benchmarks/instructions.py

needs valgrind on the PATH and `fluxgate-core` in the environment; `--source FOLDER` counts a
checkout's `src` instead. Each count is the difference of a long and a short run, so that neither
start-up nor warm-up is in it.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

SHORT, LONG = 4_000, 12_000

KINDS = {"healthy": 0, "10 % failing": 10}
"""Every how many calls one fails; 0: none."""

CALLS = """
from fluxgate import CircuitBreaker

def succeeding():
    return 5

def failing():
    raise ConnectionError

breaker = CircuitBreaker("counted")
succeeding, failing = breaker(succeeding), breaker(failing)
for _ in range(300):  # the window is full
    succeeding()
for number in range({calls}):
    try:
        (failing if {every} and number % {every} == 0 else succeeding)()
    except ConnectionError:
        pass
"""


def collected(every: int, calls: int, source: Path | None) -> int:
    """Instructions of one process that makes so many calls."""
    # Hashes and addresses are the same in each run; no site module, so that nothing else is.
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    path = [str(source)] if source else [each for each in sys.path if each]
    environment["PYTHONPATH"] = os.pathsep.join(path)
    python = [sys.executable, "-S", "-c"]
    # The modules are compiled by a run that isn't counted.
    subprocess.run([*python, "import fluxgate"], env=environment, check=True)
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    command += [*python, CALLS.format(every=every, calls=calls)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or found is None:
        sys.exit(f"callgrind failed:\n{done.stderr}")
    return int(found[1])


def main() -> None:
    """Count and print, one kind of call a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, metavar="FOLDER", help="a folder with fluxgate/")
    source: Path | None = parser.parse_args().source
    if shutil.which("valgrind") is None:
        sys.exit("valgrind isn't on the PATH (apt-get install valgrind)")
    if source is not None and not (source / "fluxgate").is_dir():
        sys.exit(f"--source {source}: there is no fluxgate/ in it")
    for kind, every in KINDS.items():
        difference = collected(every, LONG, source) - collected(every, SHORT, source)
        print(f"{kind:14} {difference / (LONG - SHORT):8,.0f} instructions a call")


if __name__ == "__main__":
    main()
