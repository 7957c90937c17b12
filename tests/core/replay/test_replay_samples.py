"""docs/operate/replay.md: its lines are read as it says; its reports are the golden files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fluxgate.replay.readers import Format, read

from .producers import APACHE_FORMAT, NGINX_FORMAT

PAGE = (Path(__file__).parents[3] / "docs" / "operate" / "replay.md").read_text(encoding="utf-8")
GOLDEN = Path(__file__).parent / "golden"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def lines_of(*kinds: str) -> list[str]:
    return [line for kind, block in BLOCKS if kind in kinds for line in block.splitlines()]


def test_formats_to_paste_are_tested() -> None:
    assert NGINX_FORMAT.strip() in PAGE
    assert APACHE_FORMAT in PAGE


def test_every_format_is_shown() -> None:
    assert re.findall(r"^\| `(\w+)` \| .* \| .* \|$", PAGE, re.MULTILINE) == [
        "csv", "json", "parquet", "recording", "nginx", "apache", "alb", "envoy", "otlp", "har",
    ]  # fmt: skip
    assert {"csv", "json", "parquet", "recording", "nginx", "apache", "alb", "envoy", "otlp"} < {
        *Format
    }


@pytest.mark.parametrize(
    ("begins", "calls"),
    [
        ('{"msec"', [("pair", 502), ("pair", 200)]),
        ("1795850254600118 ", [("shop.example", 200)]),
        ("https 2026", [("my-targets", 200)]),
        ("[2026-04-15", [("locations", 504)]),
        ('{"start"', [("payments", None)]),
    ],
)
def test_its_lines_are_read(
    tmp_path: Path, begins: str, calls: list[tuple[str, int | None]]
) -> None:
    (line,) = (each for each in lines_of("json", "text") if each.startswith(begins))
    path = tmp_path / "trace"
    path.write_text(line, encoding="utf-8")
    assert [(call.key, call.status) for call in read(path)] == calls


def test_its_reports_are_golden() -> None:
    golden = "".join(
        (GOLDEN / name).read_text(encoding="utf-8") for name in ("flapping.txt", "sweep.txt")
    )
    (table, advice) = (block for kind, block in BLOCKS if kind == "text" and "-----" in block)
    for block in (table, advice):
        for part in block.strip("\n").split("\n\n"):
            assert f"{part}\n" in golden
