"""The reference: a directive that documents every public name of a module.

`.. public:: fluxgate.trippers` gives the module's docstring, then each name of its `__all__`. A
name that a shallower module exports, too, is documented there, once, and linked to from here.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import re
import tomllib
from abc import ABC
from functools import cache
from pathlib import Path
from textwrap import dedent, indent
from types import ModuleType
from typing import Any, Generic

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.addnodes import desc_signature, pending_xref
from sphinx.application import Sphinx
from sphinx.ext import napoleon
from sphinx.util.docutils import SphinxDirective

DIRECTIVE = re.compile(r"^\.\. public:: (\S+)$", re.MULTILINE)


@cache
def modules() -> list[str]:
    """The modules that the reference shows, shallow ones first."""
    pages = Path(__file__).parents[1].glob("reference/*.rst")
    found = [name for page in pages for name in DIRECTIVE.findall(page.read_text("utf-8"))]
    return sorted(found, key=lambda name: (name.count("."), name))


@cache
def homes() -> dict[object, tuple[str, str]]:
    """Where each public name is documented: module and name, by what it stands for."""
    found: dict[object, tuple[str, str]] = {}
    for each in modules():
        module = importlib.import_module(each)
        for name in module.__all__:
            found.setdefault(identity(module, name), (each, name))
    return found


def identity(module: ModuleType, name: str) -> object:
    """What tells whether two modules export the same thing."""
    value = getattr(module, name)
    if inspect.isclass(value) or inspect.isroutine(value):
        return id(value)
    return constant(module.__name__, name)


def parsed(module: str) -> ast.Module:
    """The syntax tree of a module."""
    file = importlib.import_module(module).__file__
    assert file is not None
    return ast.parse(Path(file).read_text(encoding="utf-8"))


def constant(module: str, name: str) -> tuple[str, str, str]:
    """The home, the annotation and the docstring of a constant or type alias."""
    body = parsed(module).body
    for number, statement in enumerate(body):
        match statement:
            case ast.ImportFrom(module=str(origin), names=names):
                for alias in names:
                    if (alias.asname or alias.name) == name:
                        return constant(origin, alias.name)
            case ast.AnnAssign(target=ast.Name(id=found), annotation=annotation) if found == name:
                return module, ast.unparse(annotation), docstring_after(body, number)
            case ast.Assign(targets=[ast.Name(id=found)]) if found == name:
                return module, "", docstring_after(body, number)
            case _:
                pass
    return module, "", ""


def docstring_after(body: list[ast.stmt], number: int) -> str:
    """The string that follows a statement, which documents what that assigns."""
    match body[number + 1 : number + 2]:
        case [ast.Expr(value=ast.Constant(value=str(text)))]:
            return inspect.cleandoc(text)
        case _:
            return ""


def bases_of_others(value: type) -> list[str]:
    """Where a class has private bases of ours: the other bases, whose members aren't shown."""
    ours = [base for base in value.__mro__[1:] if base.__module__.startswith("fluxgate")]
    if not any(re.search(r"\._", base.__module__) for base in ours):
        return []
    public = [base for base in value.__mro__[1:] if base not in ours or id(base) in homes()]
    return [base.__name__ for base in public]


def documented(module: str, name: str, value: object) -> list[str]:
    """The lines that document one name."""
    if inspect.isclass(value):
        kind = "autoexception" if issubclass(value, BaseException) else "autoclass"
        lines = [f".. {kind}:: {module}.{name}", "   :members:"]
        if described_bases(value):
            lines.append("   :show-inheritance:")
        if "Args:" in (getattr(value.__init__, "__doc__", None) or ""):
            lines.append("   :class-doc-from: both")  # a base that no page describes has them
        if foreign := ", ".join(bases_of_others(value)):
            lines.append(f"   :inherited-members: {foreign}")
        return [*lines, ""]
    if inspect.isroutine(value):
        return [f".. autofunction:: {module}.{name}", ""]
    _, annotation, text = constant(module, name)
    annotation = re.sub(r"^Final(\[(.*)\])?$", r"\2", annotation)
    lines = [f".. py:data:: {name}", f"   :module: {module}"]
    if annotation:
        lines.append(f"   :type: {annotation}")
    if isinstance(value, (str, int)):
        lines.append(f"   :value: {value!r}")
    return [
        *lines,
        "",
        *indent("\n".join(with_code_blocks(text.splitlines())), "   ").splitlines(),
        "",
    ]


def lines_of(module: ModuleType) -> list[str]:
    """The module's part of the reference, as reStructuredText."""
    lines = [f".. automodule:: {module.__name__}", "   :no-members:", ""]
    elsewhere = []
    for name in module.__all__:
        value = getattr(module, name)
        home = homes()[identity(module, name)]
        if home != (module.__name__, name):
            elsewhere.append(f":py:obj:`~{'.'.join(home)}`")
            continue
        lines += documented(module.__name__, name, value)
    if elsewhere:
        lines += [f"Also importable from here: {', '.join(elsewhere)}.", ""]
    return lines


def language_of(code: str) -> str:
    """The language of an example in a docstring."""
    try:
        ast.parse(code)
    except SyntaxError:
        try:
            tomllib.loads(code)
        except tomllib.TOMLDecodeError:
            return "text"
        return "toml"
    return "python"


def with_code_blocks(lines: list[str]) -> list[str]:
    """A docstring whose examples, indented after an empty line, are reStructuredText's blocks."""
    result: list[str] = []
    number = 0
    while number < len(lines):
        free = number > 0 and not lines[number - 1].strip() and not in_section(result)
        example = number > 0 and lines[number - 1] == "Example:"
        if not lines[number].startswith("    ") or not (free or example):
            result.append(CODE.sub(code_in_prose, lines[number]))
            number += 1
            continue
        end = number
        while end < len(lines) and (not lines[end].strip() or lines[end].startswith("    ")):
            end += 1
        if example:
            result.append("")
        code = dedent("\n".join(lines[number:end])).rstrip()
        result += [f".. code-block:: {language_of(code)}", ""]
        result += [*indent(code, "    ").splitlines(), ""]
        number = end
    return result


CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)(\w?)")


def code_in_prose(found: re.Match[str]) -> str:
    """Code as reStructuredText: names stay references, and a letter may follow."""
    code, letter = found[1], found[2] and f"\\ {found[2]}"
    if re.fullmatch(r"[\w.]+", code):
        return f"`{code}`{letter}"
    return f"``{code.strip()}``{letter}"


def in_section(lines: list[str]) -> bool:
    """Whether these lines end inside a section, whose content is indented without being code."""
    heads = [line for line in lines if line and not line[0].isspace()]
    return bool(heads) and heads[-1].rstrip(":") in SECTIONS


# Sections of Google's docstrings, whose content is indented, too.
SECTIONS = frozenset({"Args", "Attributes", "Raises", "Returns", "Yields", "Note"})


def on_docstring(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Make reStructuredText of a docstring: of its examples, and of its sections by napoleon.

    Napoleon's own hook takes the words before a colon for the type of a property.
    """
    words = "method" if what in ("attribute", "data", "property") else what
    text = napoleon.GoogleDocstring(
        with_code_blocks(lines), app.config, app, words, name, obj, options
    )
    lines[:] = text.lines()


def on_member(
    app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object
) -> bool | None:
    """Leave out the fields of named tuples that have no words of their own."""
    words = getattr(obj, "__doc__", None) or ""
    return True if words.startswith("Alias for field number") else None


# How autodoc writes what a `ParamSpec` stands for, and how it is written in code.
PARAMETERS = {
    "*args: typing.P": "*args: P.args",
    "**kwargs: typing.P": "**kwargs: P.kwargs",
    "Callable[[P], ": "Callable[P, ",
}


def in_signature(node: nodes.Node) -> bool:
    """Whether a node is a part of a signature, which is code already."""
    while node is not None and not isinstance(node, desc_signature):
        node = node.parent
    return node is not None


def described_bases(value: type) -> list[Any]:
    """The bases of a class, with those of a private base of ours in its place."""
    found: list[Any] = []
    for base in getattr(value, "__orig_bases__", value.__bases__):
        origin = getattr(base, "__origin__", base)
        private = getattr(origin, "__module__", "").startswith("fluxgate")
        if private and id(origin) not in homes():
            found += described_bases(origin)
        elif origin not in (object, ABC, Generic):
            found.append(base)
    return list(dict.fromkeys(found))


def on_bases(app: Sphinx, name: str, obj: type, options: object, bases: list[Any]) -> None:
    """Show bases that have a page, or are somebody else's."""
    bases[:] = described_bases(obj)


def on_tree(app: Sphinx, tree: nodes.document) -> None:
    """Let names of builtins be code, and shorten what autodoc left long in signatures.

    No attribute called `type` is meant by `type`. A signature with a `ParamSpec` isn't parsed, and
    shows the marks (`~collections.abc.Callable`) by which others are shortened.
    """
    for signature in tree.findall(desc_signature):
        for text in list(signature.findall(nodes.Text)):
            short = re.sub(r"~(?:\w+\.)*(\w+)", r"\1", text)
            for wrong, right in PARAMETERS.items():
                short = short.replace(wrong, right)
            if short != text:
                text.parent.replace(text, nodes.Text(short))
    for reference in list(tree.findall(pending_xref)):
        if reference.get("refdomain") == "py" and hasattr(builtins, reference["reftarget"]):
            name = reference["reftarget"]
            signature = reference.parent is not None and in_signature(reference)
            reference.replace_self(nodes.Text(name) if signature else nodes.literal("", name))


class Public(SphinxDirective):
    """`.. public:: MODULE`: the docstring of a module and all that is in its `__all__`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        module = importlib.import_module(name)
        if module.__file__ is not None:
            self.env.note_dependency(module.__file__)
        node = nodes.container()
        node.document = self.state.document
        self.state.nested_parse(StringList(lines_of(module), name), 0, node)
        return node.children


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("public", Public)
    for listener in list(app.events.listeners["autodoc-process-docstring"]):
        if listener.handler.__module__ == napoleon.__name__:
            app.disconnect(listener.id)
    app.connect("autodoc-process-docstring", on_docstring)
    app.connect("autodoc-skip-member", on_member)
    app.connect("autodoc-process-bases", on_bases)
    app.connect("doctree-read", on_tree)
    return {"parallel_read_safe": True, "version": "1"}
