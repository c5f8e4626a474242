"""Find code that asks two computations for equal bits, by reading it.

Whether a number is a float cannot be read off a text, so this refuses only what is nearly always a
comparison of computed floats; the rest shows when it runs under `tests/tools/jitter.py`. Whole
numbers, masks and copies go through `tests/comparing.py`, whose names say what is meant.
"""

import ast
from collections.abc import Iterator

EQUALITIES = {"equal", "array_equal", "array_equiv", "assert_array_equal"}
ZERO_TESTS = {"any", "all", "nonzero", "count_nonzero", "bool"}
SIZES = {"abs", "norm", "square"}
ADVICE = "compare with tests/comparing.py"


def bit_comparisons(source: str) -> list[str]:
    """List the comparisons that only equal bits can meet, as `line: what it is`.

    Args:
        source: Python, of a test or of a notebook.

    Returns:
        Sentences, in the order of the lines; none if all is well.
    """
    tree = ast.parse(source)
    found = set()
    scopes = [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.Module))]
    for scope in scopes:
        differences = _names_of_differences(scope)
        for node in _own(scope):
            if said := _problem(node, differences):
                found.add((node.lineno, said))
    return [f"{line}: {said}: {ADVICE}" for line, said in sorted(found)]


def _problem(node: ast.AST, differences: set[str]) -> str | None:
    """What is wrong with this node by itself."""
    match node:
        case ast.Call(func=ast.Attribute(attr=name)) if name in EQUALITIES:
            return f"`{name}` asks for equal bits"
        case ast.Call(
            func=ast.Attribute(
                value=ast.Compare(left=left, ops=[op], comparators=[right]), attr=name
            ),
            args=[],
            keywords=[],
        ):
            asked = (name, type(op)) in (("all", ast.Eq), ("any", ast.NotEq))
            if asked and not _is_label(left) and not _is_label(right):
                return f"an entry-by-entry comparison and `{name}` ask for equal bits"
        case ast.Call(func=ast.Attribute(value=inner, attr=name)) if name in ZERO_TESTS:
            if _is_difference(inner, differences):
                return "a difference is asked to be exactly 0"
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            if isinstance(op, ast.Eq | ast.NotEq) and _is_listed(left) and _is_listed(right):
                return "two lists of computed numbers are asked for equal bits"
            if _is_zero(right) and _is_difference(left, differences):
                return "a difference is compared with exactly 0"
    return None


def _own(scope: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function, those of functions inside it left out."""
    for child in ast.iter_child_nodes(scope):
        yield child
        if not isinstance(child, ast.FunctionDef):
            yield from _own(child)


def _names_of_differences(scope: ast.AST) -> set[str]:
    """The names that were assigned the size of a difference."""
    return {
        target.id
        for node in _own(scope)
        if isinstance(node, ast.Assign) and _is_difference(node.value, set())
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _is_difference(node: ast.AST, names: set[str]) -> bool:
    """|a − b|, or what is picked or reduced from it; b is no plain number."""
    match node:
        case ast.Name(id=name):
            return name in names
        case ast.Call(func=ast.Attribute(value=ast.BinOp(op=ast.Sub(), right=right), attr=name)):
            return name in SIZES and not isinstance(right, ast.Constant)
        case ast.Call(func=ast.Attribute(value=inner)) | ast.Subscript(value=inner):
            return _is_difference(inner, names)
    return False


def _is_label(node: ast.AST) -> bool:
    """A whole number, an infinity, a truth value, or a constant's name, such as `PAD`."""
    match node:
        case ast.Constant(value=value):
            return value == int(value)
        case ast.UnaryOp(operand=operand):
            return _is_label(operand)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.isupper() or name == "inf"
    return False


def _is_listed(node: ast.AST) -> bool:
    """Is what `tolist` or `item` gave."""
    return isinstance(node, ast.Call) and getattr(node.func, "attr", None) in ("tolist", "item")


def _is_zero(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value == 0
