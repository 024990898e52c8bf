"""The words that a reader of the book meets, and where: without code, maths, addresses and markup."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same in a tenth of the time
NOT_PROSE = re.compile(
    r"""
      ^[ ]*(?P<fence>`{3,})(?!\{(?!eval-rst|bibliography|code)).*?^[ ]*(?P=fence)[ ]*$  # blocks of code
    | ^[ ]*(`{3,}|:{3,})\{(glue|solution|image|figure|literalinclude)[^\n]*$  # directives that take a name
    | ^[ ]*(`{3,}|:{3,})\{[\w:-]+\}                            # any other directive takes a title, which stays
    | ^[ ]*:(?:alt:|[\w-]+:[^\n]*$)                            # options; the text of a picture stays
    | ^\([\w:-]+\)=[ ]*$                                       # labels
    | \{[\w:-]+\}`[^`]*`                                       # roles
    | ``.*?`` | `[^`]*`                                        # code in a line
    | \$\$.*?\$\$ | \$[^$]*\$                                  # maths
    | \\begin\{(?P<env>\w+\*?)\}.*?\\end\{(?P=env)\}
    | \]\([^)]*\) | https?://\S+ | <[^<>]*> | &\w+;            # where links lead, addresses, HTML
    """,
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)
EXAMPLE = re.compile(r"^[ ]*>>>.*?(?=^[ ]*$|\Z)", re.DOTALL | re.MULTILINE)
LITERAL = re.compile(r"^[ ]{2,}.*$", re.MULTILINE)  # formulas, in docstrings
# letters with apostrophes among them; what digits, underscores, dots or slashes join to more is a name, not a word
_LETTERS = "[A-Za-zÀ-ÖØ-öø-ÿ]+"
WORD = re.compile(rf"(?<![\w./\\]){_LETTERS}(?:['’]{_LETTERS})*(?![\w/]|\.\w|\()")


def words(text: str) -> Iterator[str]:
    """The words of a text in Markdown; those with a capital inside are abbreviations or names and left out."""
    for found in WORD.findall(NOT_PROSE.sub(" ", text)):
        word = re.sub(r"['’]s?$", "", found)
        if len(word) > 1 and word[1:] == word[1:].lower():
            yield word


def passages(root: Path) -> Iterator[tuple[str, str]]:
    """(where, text) of all prose below `root`: pages, documents beside them, claims, docstrings of the reference."""
    for path in sorted([*root.glob("book/*.ipynb"), *root.glob("book/**/*.md"), *root.glob("*.md")]):
        name = path.relative_to(root).as_posix()
        if "vendor" in path.parts:
            continue
        if path.suffix == ".md":
            yield name, path.read_text(encoding="utf-8")
        else:
            yield from _cells(path, name)
    for claim in yaml.load((root / "book/claims.yml").read_text(encoding="utf-8"), Loader=YAML)["claims"]:
        yield f"book/claims.yml, claim {claim['id']}", "\n\n".join(v for v in claim.values() if isinstance(v, str))
    for path in sorted(root.glob("lop_utils/**/*.py")):
        yield from _docstrings(path, path.relative_to(root).as_posix())


def _cells(path: Path, name: str) -> Iterator[tuple[str, str]]:
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] == "markdown":
            yield f"{name}, cell {number} ({cell['id']})", "".join(cell["source"])


def _docstrings(path: Path, name: str) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
            label = f"{name}, {node.name}" if hasattr(node, "name") else name
            yield label, LITERAL.sub("", EXAMPLE.sub("", text))
