"""A small Sphinx extension: the package's docstrings as reference pages, one page a floor (`book/api`).

Docstrings here are plain text with `names` in backticks, indented formulas and doctests, not reStructuredText. This
extension makes them safe to read as such, shows signatures as the source spells them, documents each object only in the
module that defines it, and lets the names of other packages' types stand as text, since their pages are on other hosts.
"""

import ast
import contextlib
import inspect
import re
import sys
import textwrap
from dataclasses import is_dataclass
from typing import Any

PACKAGE = "lop_utils"
OPTIONS = {"autodoc_member_order": "bysource", "autodoc_inherit_docstrings": False}  # torch's are not ours
_CODE = re.compile(r"(`+[^`]+`+)")
_MARKUP = re.compile(r"([\\*|]|(?<=\w)_(?=\W|$))")
_SELF = ("self", "cls")


def setup(app: Any) -> dict[str, bool]:
    """Connect the functions below; called by Sphinx."""
    app.setup_extension("sphinx.ext.autodoc")
    for name, value in OPTIONS.items():
        setattr(app.config, name, value)
    app.connect("autodoc-process-docstring", _docstring)
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-skip-member", _skip)
    app.connect("doctree-read", _names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def as_rst(lines: list[str]) -> list[str]:
    """A docstring's lines as reStructuredText: names in backticks become code, indented lines a literal block.

    >>> as_rst(["The rank of `x`, |x| <= 1.", "", ">>> 1 + 1", "2"])
    ['The rank of ``x``, \\\\|x\\\\| <= 1.', '', '>>> 1 + 1', '2']
    >>> as_rst(["Formula:", "    a * b", "after it"])
    ['Formula:', '', '::', '', '    a * b', '', 'after it']
    """
    found, block, doctest = [], False, False
    for line in lines:
        doctest = line.startswith(">>>") or (doctest and bool(line.strip()))
        indented = line.startswith("  ") and not doctest
        if indented and not block:
            found += ["", "::", ""]
        elif block and line.strip() and not indented:
            found += [""] if found[-1].strip() else []
        block = indented or (block and not line.strip())
        found.append(line if indented or doctest else _escaped(line))
    return found


def _escaped(line: str) -> str:
    parts = _CODE.split(line)
    return "".join(f"``{part.strip('`')}``" if i % 2 else _MARKUP.sub(r"\\\1", part) for i, part in enumerate(parts))


def signature_of(obj: Any) -> str | None:
    """The parameters of a function or a dataclass as its source spells them; None where there is no source.

    >>> signature_of(as_rst)
    '(lines: list[str])'
    """
    with contextlib.suppress(OSError, TypeError, SyntaxError):
        node = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(obj)))).body[0]
        if isinstance(node, ast.ClassDef):
            return _fields(node) if is_dataclass(obj) else _of_init(node)
        if isinstance(node, ast.FunctionDef):
            return _parameters(node)
    return None


def _parameters(node: ast.FunctionDef) -> str:
    arguments = node.args
    first = (arguments.posonlyargs or arguments.args or [None])[0]
    if first is not None and first.arg in _SELF:
        (arguments.posonlyargs or arguments.args).pop(0)
    return f"({ast.unparse(arguments)})"


def _of_init(node: ast.ClassDef) -> str | None:
    own = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
    return _parameters(own[0]) if own else None


def _fields(node: ast.ClassDef) -> str | None:
    """The fields of a dataclass without bases; a default that is made by a factory is shown as `...`."""
    if node.bases:
        return None
    shown = []
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and not ast.unparse(item.annotation).startswith("ClassVar"):
            made = isinstance(item.value, ast.Call) and ast.unparse(item.value.func) == "field"
            if made:
                item.value = ast.Constant(...)
            shown.append(ast.unparse(item))
    return f"({', '.join(shown)})"


def _docstring(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = as_rst(lines)


def _signature(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None] | None:
    spelled = signature_of(obj) if what in ("function", "method", "class") else None
    if spelled is None:
        return None
    annotation = getattr(obj, "__annotations__", {}).get("return") if what != "class" else None
    return spelled, _returned(obj) if annotation is not None else None


def _returned(obj: Any) -> str | None:
    with contextlib.suppress(OSError, TypeError, SyntaxError):
        node = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(obj)))).body[0]
        return ast.unparse(node.returns) if getattr(node, "returns", None) else None
    return None


def _skip(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what the module only passes on from another one of this package."""
    home, here = getattr(obj, "__module__", None) or "", app.env.temp_data.get("autodoc:module")
    return True if what == "module" and home.startswith(PACKAGE) and home != here else None


def _names(app: Any, doctree: Any) -> None:
    """Send each name in a signature to the object that its module means by it; what has no page here becomes text."""
    for node in list(doctree.findall(lambda node: getattr(node, "tagname", "") == "pending_xref")):
        if node.get("refdomain") == "py" and node.get("reftype") in ("class", "obj") and "py:module" in node:
            target = _meant(node["py:module"], node["reftarget"])
            if target is None:
                node.replace_self(node.children)
            else:
                node["reftarget"] = target


def _meant(module: str | None, name: str) -> str | None:
    """Full name of the public object of this package that `name` is in `module`; None for any other.

    >>> _meant("lop_utils.kit.checks", "Page"), _meant("lop_utils.kit.checks", "Path")
    ('lop_utils.kit.pages.Page', None)
    """
    found = sys.modules.get(module or "")
    for part in name.split("."):
        found = getattr(found, part, None)
    full = f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}"
    hidden = any(part.startswith("_") for part in full.split("."))
    return full if isinstance(found, type) and full.startswith(f"{PACKAGE}.") and not hidden else None
