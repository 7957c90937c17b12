"""The site, built into `dist/docs/`: English at its top, Korean in `ko/`, one search for both.

    python docs/_site/build.py [--serve [PORT]] [--catalogs]

Warnings are errors. Nothing is loaded from elsewhere; `foreign` looks for it in what was built.
`--catalogs` brings the catalogs of the translation up to date instead (sphinx-intl).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import http.server
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from checks import dead, exported, foreign, undocumented
from languages import is_translated
from translation import picture_in_korean

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SITE = ROOT / "dist" / "docs"
LANGUAGES = {"en": SITE, "ko": SITE / "ko"}
LEAST_TRANSLATED = 0.95
"""Share of the paragraphs; what has changed since is shown in English, and this is its limit."""


def sphinx(language: str, builder: str, outdir: Path) -> subprocess.Popen[bytes]:
    """Start Sphinx; a warning is an error, and all of them are shown."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--fresh-env"),
            *("--builder", builder, "--define", f"language={language}"),
            *("--doctree-dir", ROOT / ".nox" / "docs" / f"doctrees-{builder}-{language}"),
            *(DOCS, outdir),
        ]
    )


def wait_for(*processes: subprocess.Popen[bytes]) -> None:
    """Wait for all of them; end with the status of one that failed."""
    if status := max(abs(process.wait()) for process in processes):
        sys.exit(status)


def catalogs() -> None:
    """Extract every paragraph into templates, and merge them into the Korean catalogs.

    The picture of the states is drawn anew with Korean texts, too.
    """
    (DOCS / "states.ko.svg").write_text(picture_in_korean(DOCS), encoding="utf-8")
    templates = ROOT / ".nox" / "docs" / "gettext"
    shutil.rmtree(templates, ignore_errors=True)
    wait_for(sphinx("en", "gettext", templates))
    for template in templates.rglob("*.pot"):
        if not is_translated(template.relative_to(templates).with_suffix("").as_posix()):
            template.unlink()
    subprocess.run(
        [
            *(sys.executable, "-m", "sphinx_intl", "update", "--line-width", "98"),
            *("--pot-dir", templates, "--locale-dir", DOCS / "locales", "--language", "ko"),
        ],
        check=True,
    )


def build() -> None:
    """Build both languages and the search, look for dead and foreign links, count."""
    began = time.monotonic()
    shutil.rmtree(SITE, ignore_errors=True)
    wait_for(*(sphinx(language, "html", outdir) for language, outdir in LANGUAGES.items()))
    subprocess.run(
        [
            *(sys.executable, "-m", "pagefind", "--site", SITE, "--quiet"),
            *("--root-selector", "article", "--exclude-selectors", ".headerlink"),
        ],
        check=True,
    )
    if elsewhere := foreign(SITE):
        sys.exit("The site would load from elsewhere:\n" + "\n".join(elsewhere))
    if lost := dead(SITE):
        sys.exit("Links of the site lead nowhere:\n" + "\n".join(lost))
    if lacking := undocumented(SITE, exported(ROOT)):
        sys.exit("The reference lacks public names:\n" + "\n".join(lacking))
    counts = json.loads((SITE / "ko" / "translated.json").read_text(encoding="utf-8"))
    for page, (translated, total) in counts.items():
        if translated < total:
            print(f"{page}: {total - translated} of {total} paragraphs are not in Korean")
    translated, total = (sum(column) for column in zip(*counts.values(), strict=True))
    print(f"{translated} of {total} paragraphs of {len(counts)} pages are in Korean")
    if translated < LEAST_TRANSLATED * total:
        sys.exit(f"fewer than {LEAST_TRANSLATED:.0%}: `-- --catalogs`, and translate what is new")
    print(f"{SITE.relative_to(ROOT)}: built in {time.monotonic() - began:.0f} s")


def serve(port: int) -> None:
    """Show the site to this machine alone, until interrupted."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=SITE)
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        print(f"http://127.0.0.1:{server.server_port}/ and /ko/; Ctrl-C ends it", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


def main() -> None:
    """Read the arguments and do it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--serve", nargs="?", type=int, const=8000, metavar="PORT")
    parser.add_argument(
        "--catalogs", action="store_true", help="update docs/locales, build nothing"
    )
    options = parser.parse_args()
    try:
        if options.catalogs:
            catalogs()
            return
        build()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    if options.serve is not None:
        serve(options.serve)


if __name__ == "__main__":
    main()
