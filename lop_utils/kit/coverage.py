"""Which experiments a claim rests on, read from the chapters' code, and what a budget of hours buys.

A chapter fetches results with `book.results(experiment, configuration)` and judges claims with `book.judge(id, ...)`.
Names are followed from one to the other through its assignments, loops and functions. Where that is in doubt it errs on
the side of more: a list that is filled in a loop carries all that went into it.
"""

import ast
from collections.abc import Iterator, Mapping

from lop_utils.evidence.claims import load_claims
from lop_utils.kit.pages import chapters, read
from lop_utils.kit.stamps import code_cells

PREFIX = "lop_utils.experiments"
_CHANGING = ("append", "extend", "update", "setdefault", "add")


def experiments_of_claims(known: Mapping[str, str]) -> dict[str, set[str]]:
    """Claim -> names of the experiments whose results it needs (none: its chapter computes it), for all claims.

    known: experiment -> module, as `kit.experiments.known` gives it.
    """
    names = {module: name for name, module in known.items()}
    found: dict[str, set[str]] = {}
    for page in chapters():
        source = "\n".join(_plain(cell.source) for cell in code_cells(read(page.path)))
        for claim, modules in followed(source).items():
            found.setdefault(claim, set()).update(names[module] for module in modules if module in names)
    return {claim: found[claim] for claim in load_claims() if claim in found}


def _plain(source: str) -> str:
    return "\n".join(line for line in source.splitlines() if not line.lstrip().startswith(("%", "!")))


def followed(source: str) -> dict[str, set[str]]:
    """Claim -> modules of experiments that reach its `book.judge`.

    >>> code = "from lop_utils.experiments import cloning\nx = book.results(cloning, c)\nbook.judge('a', y=x)"
    >>> followed(code)
    {'a': {'lop_utils.experiments.cloning'}}
    """
    tree = ast.parse(source)
    flow = _Flow(dict(_imported(tree)))
    for statement in tree.body:
        flow.follow(statement)
    return flow.judged


def _imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == PREFIX:
            yield from ((alias.asname or alias.name, f"{PREFIX}.{alias.name}") for alias in node.names)


class _Flow:
    """What has reached each name so far, statement by statement; a function carries what it reads from outside."""

    def __init__(self, modules: Mapping[str, str]):
        self.modules = modules
        self.reach: dict[str, set[str]] = {}
        self.functions: dict[str, ast.FunctionDef] = {}
        self.judged: dict[str, set[str]] = {}

    def follow(self, statement: ast.stmt, *, sure: bool = True) -> None:
        """`sure`: the statement runs once, so what it assigns forgets what it held."""
        if isinstance(statement, ast.FunctionDef):
            self.functions[statement.name] = statement
        elif isinstance(statement, ast.For | ast.If | ast.With):
            self._gain(statement, sure=False, inside=False)
            for inner in [*statement.body, *getattr(statement, "orelse", [])]:
                self.follow(inner, sure=False)
        else:
            self._gain(statement, sure=sure)
            self._judge(statement)

    def _gain(self, statement: ast.stmt, *, sure: bool, inside: bool = True) -> None:
        head = statement if inside else _head(statement)
        gained = self.reached(head)
        plain = {n.id for n in _walk(head) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        if isinstance(statement, ast.AugAssign):
            sure = False
        for name in plain | set(_changed(head)):
            kept = set() if sure and name in plain else self.reach.get(name, set())
            self.reach[name] = kept | gained

    def _judge(self, statement: ast.stmt) -> None:
        for call in (node for node in ast.walk(statement) if _is(node, "judge") and node.args):
            for claim in (n.value for n in ast.walk(call.args[0]) if isinstance(n, ast.Constant)):
                self.judged.setdefault(claim, set()).update(self.reached(call))

    def reached(self, node: ast.AST, hidden: frozenset[str] = frozenset(), seen: frozenset[str] = frozenset()) -> set:
        """Modules of experiments that a piece of code reads; `hidden` names are the piece's own."""
        found: set[str] = set()
        for inner in ast.walk(node):
            if _is(inner, "results") and inner.args and isinstance(inner.args[0], ast.Name):
                found |= {self.modules.get(inner.args[0].id, "")} - {""}
            if not isinstance(inner, ast.Name) or not isinstance(inner.ctx, ast.Load) or inner.id in hidden:
                continue
            found |= self.reach.get(inner.id, set())
            function = self.functions.get(inner.id)
            if function is not None and inner.id not in seen:
                found |= self.reached(function, _own(function), seen | {inner.id})
        return found


def _is(node: ast.AST, method: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method


def _head(statement: ast.For | ast.If | ast.With) -> ast.AST:
    """A compound statement without its body: what it loops over and into, tests, or opens."""
    if isinstance(statement, ast.For):
        return ast.Assign([statement.target], statement.iter)
    return ast.Module([ast.Expr(statement.test)] if isinstance(statement, ast.If) else statement.items, [])


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """Like ast.walk, without the variables of comprehensions and lambdas, which are their own."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def _changed(node: ast.AST) -> Iterator[str]:
    """Names of what a statement changes in place: by subscript, or by a method such as append."""
    for inner in ast.walk(node):
        target = None
        if isinstance(inner, ast.Subscript) and isinstance(inner.ctx, ast.Store):
            target = inner.value
        if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute) and inner.func.attr in _CHANGING:
            target = inner.func.value
        if target is not None:
            yield from (n.id for n in ast.walk(target) if isinstance(n, ast.Name) and n.id != "book")


def _own(function: ast.FunctionDef) -> frozenset[str]:
    """Names that a function binds itself: its arguments and what it assigns."""
    arguments = {a.arg for a in ast.walk(function.args) if isinstance(a, ast.arg)}
    stored = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return frozenset(arguments | stored)


def affordable(costs: Mapping[str, float], needs: Mapping[str, set[str]], budget: float) -> list[tuple[str, float]]:
    """Claims that fit into `budget`, cheapest first, with the sum of costs so far: the least further cost comes next.

    costs: experiment -> hours; a claim that needs an experiment without a cost does not fit.

    >>> affordable({"a": 1.0, "b": 2.0}, {"x": {"b"}, "y": {"a"}, "z": {"a", "b"}}, 2.5)
    [('y', 1.0)]
    """
    left = {claim: needed for claim, needed in needs.items() if all(name in costs for name in needed)}
    bought: set[str] = set()
    spent, found = 0.0, []
    while left:
        further = {claim: sum(costs[name] for name in needed - bought) for claim, needed in left.items()}
        claim = min(further, key=further.__getitem__)
        if spent + further[claim] > budget:
            break
        spent += further[claim]
        bought |= left.pop(claim)
        found.append((claim, spent))
    return found
