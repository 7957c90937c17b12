"""What the built sdists and wheels must hold, and nothing else.

Run by the session `build` as `python tests/built_contents.py dist packages`.
"""

import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

# What hatchling adds to an sdist by itself.
ADDED = {"PKG-INFO", "pyproject.toml", ".gitignore"}
URLS = {"Homepage"}


def check(condition: object, message: str) -> None:
    if not condition:
        sys.exit(f"contents: {message}")


def sources(package: Path) -> set[str]:
    """The files of a package's `src`, by their paths in there."""
    src = package / "src"
    return {
        path.relative_to(src).as_posix()
        for path in src.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def the_one(dist: Path, pattern: str) -> Path:
    found = sorted(dist.glob(pattern))
    check(len(found) == 1, f"{pattern} should be one file: {[each.name for each in found]}")
    return found[0]


def main(dist: Path, packages: Path) -> None:
    for package in sorted(path.parent for path in packages.glob("*/pyproject.toml")):
        name = package.name.replace("-", "_")
        wanted = sources(package)
        check(any(each.endswith("py.typed") for each in wanted), f"{name} has no py.typed")

        with tarfile.open(the_one(dist, f"{name}-*.tar.gz")) as sdist:
            held = {each.name.partition("/")[2] for each in sdist.getmembers() if each.isfile()}
        expected = {f"src/{each}" for each in wanted} | {"README.md", "LICENSE"} | ADDED
        check(held == expected, f"the sdist of {name} differs: {sorted(held ^ expected)}")

        wheel = the_one(dist, f"{name}-*.whl")
        with zipfile.ZipFile(wheel) as opened:
            files = {each for each in opened.namelist() if not each.endswith("/")}
            (info,) = {each.partition("/")[0] for each in files if ".dist-info/" in each}
            metadata = message_from_bytes(opened.read(f"{info}/METADATA"))
        code = {each for each in files if not each.startswith(f"{info}/")}
        check(code == wanted, f"the wheel of {name} differs: {sorted(code ^ wanted)}")
        check(f"{info}/licenses/LICENSE" in files, f"the wheel of {name} has no LICENSE")
        check(wheel.name.endswith("-py3-none-any.whl"), f"{wheel.name} isn't for every machine")

        urls = {each.partition(",")[0] for each in metadata.get_all("Project-URL", [])}
        check(urls >= URLS, f"{name} lacks project URLs: {sorted(URLS - urls)}")
        check(metadata["License-Expression"] == "MIT", f"the licence of {name}")
        check(metadata["Description-Content-Type"] == "text/markdown", f"the README of {name}")
        readme = str(metadata.get_payload())
        check("pip install" in readme and "```python" in readme, f"the README of {name}")
        print(f"{name}: {len(wanted)} files of ours, in the sdist and in the wheel")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
