"""The version that all packages share: says it, or sets it everywhere for a release.

    python packages/version.py          prints it
    python packages/version.py 0.3.0    sets it, and dates the changelog's "Unreleased"

It stands in `fluxgate-core/pyproject.toml`. The other packages have it, and pin the core to it,
since a package's metadata is read without ours; this is what keeps them the same.
"""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

VERSION = re.compile(r'^version = "(.+)"$', re.MULTILINE)
NUMBER = re.compile(r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?")
UNRELEASED = "## [Unreleased]\n"


def projects(root: Path) -> list[Path]:
    """The packages' pyproject.toml, the core's first."""
    return sorted(root.glob("packages/*/pyproject.toml"), key=lambda each: each.parent.name)


def current(root: Path = ROOT) -> str:
    """The version of the core."""
    text = (root / "packages" / "fluxgate-core" / "pyproject.toml").read_text(encoding="utf-8")
    found = VERSION.search(text)
    assert found is not None
    return found[1]


def release(new: str, root: Path = ROOT) -> None:
    """Set the version everywhere, and give the changelog's unreleased changes to it.

    Raises:
        ValueError: `new` is no version, is the current one, or nothing has changed since that.
    """
    if not NUMBER.fullmatch(new):
        raise ValueError(f"{new!r} is no version: three numbers, such as 0.3.0, or 0.3.0rc1")
    old = current(root)
    if new == old:
        raise ValueError(f"{new} is the version already")
    changelog = root / "CHANGELOG.md"
    text = changelog.read_text(encoding="utf-8")
    _, _, changes = text.partition(UNRELEASED)
    if not changes.partition("\n## ")[0].strip():
        raise ValueError("CHANGELOG.md has no changes under [Unreleased]")
    heading = f"{UNRELEASED}\n## [{new}] - {datetime.now(UTC):%Y-%m-%d}\n"
    changelog.write_text(text.replace(UNRELEASED, heading, 1), encoding="utf-8")
    for path in projects(root):
        toml = path.read_text(encoding="utf-8")
        toml = VERSION.sub(f'version = "{new}"', toml, count=1)
        toml = toml.replace(f'"fluxgate-core=={old}"', f'"fluxgate-core=={new}"')
        path.write_text(toml, encoding="utf-8")


if __name__ == "__main__":
    try:
        for argument in sys.argv[1:2]:
            release(argument)
    except ValueError as error:
        sys.exit(f"version.py: {error}")
    print(current())
