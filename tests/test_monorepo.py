"""The packages fit together: one version, siblings pinned to it, types shipped."""

import importlib
import importlib.util
import re
import shutil
import tomllib
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
FOLDERS = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))
VERSION = tomllib.loads((ROOT / "packages/fluxgate-core/pyproject.toml").read_text())["project"][
    "version"
]
INTEGRATIONS = [each.name.replace("-", "_") for each in FOLDERS if each.name != "fluxgate-core"]

packages = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def as_ruff_sorts(name: str) -> tuple[bool, bool, str]:
    """CONSTANTS, then Classes, then functions."""
    return not name.isupper(), not name[0].isupper(), name


def project(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text())["project"]


def test_the_packages_are_found() -> None:
    assert {"fluxgate-core", "fluxgate-httpx"} <= {folder.name for folder in FOLDERS}


@packages
def test_the_tools_look_into_it(folder: Path) -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    source = f"packages/{folder.name}/src"
    assert source in tools["mypy"]["mypy_path"]
    assert source in tools["pyright"]["extraPaths"]


@packages
def test_all_share_one_version_and_pin_their_siblings_to_it(folder: Path) -> None:
    described = project(folder)
    assert described["name"] == folder.name
    assert described["version"] == VERSION
    siblings = [line for line in described["dependencies"] if line.startswith("fluxgate-")]
    assert siblings == ([] if folder.name == "fluxgate-core" else [f"fluxgate-core=={VERSION}"])


@packages
def test_ships_types_and_the_licence(folder: Path) -> None:
    (module,) = (folder / "src").iterdir()
    assert (module / "py.typed").is_file()
    assert (folder / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_the_core_depends_on_nothing() -> None:
    assert project(ROOT / "packages" / "fluxgate-core")["dependencies"] == []


@pytest.mark.parametrize("name", INTEGRATIONS)
def test_an_integration_imports_and_knows_its_version(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__version__ == metadata.version(name.replace("_", "-")) == VERSION
    assert list(module.__all__) == sorted(module.__all__, key=as_ruff_sorts)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = module.nothing


def test_pre_commit_runs_what_lint_runs() -> None:
    settings = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    hooks = [hook for repo in settings["repos"] for hook in repo["hooks"]]
    assert [hook["entry"] for hook in hooks] == ["ruff check", "ruff format"]
    assert [hook["additional_dependencies"] for hook in hooks] == [groups["lint"]] * 2


def test_one_command_sets_every_version(tmp_path: Path) -> None:
    for folder in FOLDERS:
        there = tmp_path / "packages" / folder.name
        there.mkdir(parents=True)
        shutil.copy(folder / "pyproject.toml", there)
    changelog = tmp_path / "CHANGELOG.md"
    changelog.write_text("# Changelog\n\n## [Unreleased]\n\n- A change.\n")
    script = load_script()
    script.release("9.8.7", tmp_path)
    for folder in FOLDERS:
        text = (tmp_path / "packages" / folder.name / "pyproject.toml").read_text()
        assert tomllib.loads(text)["project"]["version"] == "9.8.7"
        assert f"=={VERSION}" not in text
    text = changelog.read_text()
    assert re.search(r"## \[Unreleased\]\n\n## \[9\.8\.7\] - \d{4}-\d\d-\d\d\n\n- A change", text)
    for wrong, why in (("9.8.7", "already"), ("9.9", "no version"), ("9.9.0", "no changes")):
        with pytest.raises(ValueError, match=why):
            script.release(wrong, tmp_path)
    assert script.current() == VERSION


def test_the_changelog_reads_as_notes() -> None:
    """Added, Changed, Fixed, in that order; each line once; no link that PyPI can't follow."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert versions[0].startswith("[Unreleased]\n")
    for version in versions:
        kinds = re.findall(r"^### (.+)$", version, re.MULTILINE)
        known = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
        assert kinds == [kind for kind in known if kind in kinds]
        entries = re.findall(r"^- (.+)$", version, re.MULTILINE)
        assert len(entries) == len(set(entries))
    assert re.findall(r"\]\((?!https://|#)[^)]*\)", text) == []


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("set_version", ROOT / "packages" / "version.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@packages
def test_all_have_the_same_addresses_and_age(folder: Path) -> None:
    core = project(ROOT / "packages" / "fluxgate-core")
    described = project(folder)
    assert described["urls"] == core["urls"]
    for each in ("Development Status", "Programming Language"):
        ours, theirs = (
            [line for line in one["classifiers"] if line.startswith(each)]
            for one in (described, core)
        )
        assert ours == theirs
