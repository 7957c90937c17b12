"""Sphinx's configuration: two languages, Markdown pages, the reference from docstrings.

`python3 noxfile.py -s docs` builds the site into `dist/docs/`; `_site/build.py` is what it runs.
"""

from __future__ import annotations

import sys
from pathlib import Path

from django.conf import settings as django_settings

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "_site"))

# Modules of fluxgate_django read settings when they are imported.
django_settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "fluxgate_django"],
    USE_TZ=True,
)
__import__("django").setup()

project = "Fluxgate"
author = "Fluxgate contributors"
copyright = "Fluxgate contributors, MIT licensed"
release = __import__("importlib.metadata").metadata.version("fluxgate-core")
version = release

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "repository",
    "public_names",
    "commands",
    "languages",
]
exclude_patterns = ["_site", "_static", "_templates", "locales"]
templates_path = ["_templates"]
language = "en"

# Pages. Anchors are those of GitHub, where the same files are read.
myst_heading_anchors = 5
myst_enable_extensions = ["attrs_inline", "colon_fence"]
myst_links_external_new_tab = False
highlight_language = "text"
suppress_warnings = ["myst.header"]  # an included page begins with its own title

# Reference. Single backticks in docstrings name objects where there is one, and are code elsewhere.
default_role = "py:obj"
add_module_names = False
autodoc_member_order = "groupwise"
autodoc_typehints = "signature"
autodoc_inherit_docstrings = False  # what a method promises is said once, at the interface
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

# Translations: catalogs of gettext. What is stale or missing is shown in English.
locale_dirs = ["locales"]
gettext_compact = False
gettext_location = False
gettext_uuid = False
figure_language_filename = "{root}.{language}{ext}"

html_theme = "furo"
html_title = f"Fluxgate {release}"
html_favicon = "_static/favicon.svg"
html_static_path = ["_static"]
html_css_files = ["fluxgate.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/languages.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}
