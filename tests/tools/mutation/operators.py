"""Every single edit that we make to a file to see whether a test notices.

A mutant is an edit of the text, so that what is reported is what one could have typed: the rest of
the file, its line numbers and its layout stay. The edits are found on the syntax tree.

Left alone, because no test should depend on it: docstrings, type annotations and jaxtyping shapes,
the wording of errors (everything inside `raise`, every f-string, every string of several words),
`__all__`, the block under `if __name__ == "__main__"`, and the keyword arguments in `COSMETIC`.
"""

import ast
import re
from collections.abc import Iterator
from itertools import pairwise

from tests.tools.mutation.source import Mutant, Source

COMPARISONS = {
    ast.Lt: ("<", ("<=", ">=")),
    ast.LtE: ("<=", ("<", ">")),
    ast.Gt: (">", (">=", "<=")),
    ast.GtE: (">=", (">", "<")),
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
    ast.Is: ("is", ("is not",)),
    ast.IsNot: ("is not", ("is",)),
    ast.In: ("in", ("not in",)),
    ast.NotIn: ("not in", ("in",)),
}
ARITHMETIC = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "/"),
    ast.Mod: ("%", "//"),
    ast.Pow: ("**", "*"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.BitXor: ("^", "|"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
}
_OPPOSITES = (
    "min max, minimum maximum, amin amax, argmin argmax, any all, floor ceil, sin cos, log exp,"
    "tril triu, zeros ones, zeros_like ones_like, sum mean, cumsum cumprod, sigmoid tanh,"
    "softmax log_softmax, lower upper, lstrip rstrip, startswith endswith, find rfind,"
    "append extend, train eval"
)
OTHER_FUNCTION = dict(pair.split() for pair in _OPPOSITES.split(","))
OTHER_FUNCTION |= {other: one for one, other in OTHER_FUNCTION.items()}
SYMMETRIC = {"min", "max", "minimum", "maximum", "equal", "allclose", "broadcast_shapes"}
# Help texts, layout, what a repr shows, when a line is shown, guards that by design never fire.
COSMETIC = {"prog", "help", "description", "indent", "repr", "flush", "strict", "encoding"}
TYPES = {"Float", "Int", "Integer", "Bool", "Num", "Shaped", "Callable", "Literal"}
_SENTENCE = re.compile(r"\w[,.;:]?\s+\w")


def mutants_of(file: str, text: bytes) -> list[Mutant]:
    """Every mutant of one file, in the order of the text, none twice, all valid Python."""
    source = Source(text)
    unchanged = ast.dump(source.tree)
    found, seen = [], set()
    for start, end, new in sorted(set(edits(source))):
        whole = text[:start] + new + text[end:]
        try:
            dump = ast.dump(ast.parse(whole))
        except SyntaxError:  # parentheses or a keyword stood in the way of the edit
            continue
        if dump != unchanged and dump not in seen:
            seen.add(dump)
            found.append(Mutant(file, start, end, new, *source.shown(start, end, new)))
    return found


def edits(source: Source) -> Iterator[tuple[int, int, bytes]]:
    """Every edit of a file: `(start, end, new)`, unsorted; some may not be valid Python."""
    modules = {
        (alias.asname or alias.name).split(".")[0]
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    yield from _Editor(source, modules).below(source.tree)


class _Editor:
    """Walks the tree; one method for each kind of node that has mutants."""

    def __init__(self, source: Source, modules: set[str]):
        self.source, self.modules = source, modules

    def below(self, node: ast.AST) -> Iterator[tuple[int, int, bytes]]:
        """The edits of everything under `node` that is not left alone."""
        for child in ast.iter_child_nodes(node):
            if child not in _left_alone(node):
                yield from self.at(child)

    def at(self, node: ast.AST) -> Iterator[tuple[int, int, bytes]]:
        """The edits of `node` and of everything under it."""
        if isinstance(node, ast.JoinedStr) or _is_main_block(node) or _is_all(node):
            return
        if _is_type(node):
            return
        if own := getattr(self, f"at_{type(node).__name__}", None):
            yield from own(node)
        yield from self.below(node)

    def replace(self, node: ast.AST, new: str | bytes):
        yield *self.source.span(node), new.encode() if isinstance(new, str) else new

    def negate(self, test: ast.expr):
        """Turn a condition round, unless another edit of it does the same."""
        if not isinstance(test, ast.Compare) and not _is_not(test):
            yield from self.replace(test, b"not (" + self.source.of(test) + b")")

    # Expressions

    def at_Compare(self, node):
        for left, op, right in zip(
            [node.left, *node.comparators], node.ops, node.comparators, strict=False
        ):
            old, others = COMPARISONS[type(op)]
            for new in others:
                yield from self.source.between(left, right, old, new)

    def at_BinOp(self, node):
        if type(node.op) in ARITHMETIC:
            yield from self.source.between(node.left, node.right, *ARITHMETIC[type(node.op)])

    def at_UnaryOp(self, node):
        yield from self.replace(node, self.source.of(node.operand))

    def at_BoolOp(self, node):
        parts = [self.source.of(value) for value in node.values]
        old, new = (b"and", b"or") if isinstance(node.op, ast.And) else (b"or", b"and")
        swapped = b" " + new + b" "
        yield from self.replace(
            node, b"(" + swapped.join(b"(" + part + b")" for part in parts) + b")"
        )
        for i in range(len(parts)):
            rest = parts[:i] + parts[i + 1 :]
            kept = (b" " + old + b" ").join(b"(" + part + b")" for part in rest)
            yield from self.replace(node, b"(" + kept + b")")

    def at_IfExp(self, node):
        yield from self.negate(node.test)

    def at_comprehension(self, node):
        for test in node.ifs:
            yield from self.negate(test)

    def at_Constant(self, node):
        value = node.value
        if isinstance(value, bool):
            yield from self.replace(node, str(not value))
        elif isinstance(value, int):
            yield from self.replace(node, str(value + 1))
            yield from self.replace(node, f"({value - 1})" if value == 0 else str(value - 1))
        elif isinstance(value, float):
            yield from self.replace(node, repr(value + 1))
            if value:
                yield from self.replace(node, repr(value * 2))
        elif isinstance(value, str) and not _SENTENCE.search(value):
            yield from self.replace(node, repr(value + "XX"))

    def at_Call(self, node):
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name in OTHER_FUNCTION:
            start, end = self.source.span(node.func)
            yield end - len(name), end, OTHER_FUNCTION[name].encode()
        positional = [a for a in node.args if not isinstance(a, ast.Starred)]
        if len(positional) == len(node.args) and name not in SYMMETRIC:
            for a, b in pairwise(positional):
                (start, a_end), (b_start, end) = self.source.span(a), self.source.span(b)
                comma = self.source.text[a_end:b_start]
                yield start, end, self.source.of(b) + comma + self.source.of(a)
        droppable = [k for k in node.keywords if k.arg and k.arg not in COSMETIC]
        if len(positional) > 1:
            droppable.append(positional[-1])
        arguments = sorted((*node.args, *node.keywords), key=self.source.span)
        for argument in droppable:
            i = arguments.index(argument)
            if i + 1 < len(arguments):
                yield self.source.span(argument)[0], self.source.span(arguments[i + 1])[0], b""
            elif i:
                yield self.source.span(arguments[i - 1])[1], self.source.span(argument)[1], b""
            else:
                yield *self.source.span(argument), b""
        if not arguments and isinstance(node.func, ast.Attribute):  # x.strip() → x
            root = node.func.value
            if not (isinstance(root, ast.Name) and root.id in self.modules):
                if self.source.of(root) != b"super()":
                    yield from self.replace(node, self.source.of(root))

    def at_Slice(self, node):
        for bound in (node.lower, node.upper, node.step):
            if bound is not None:
                yield from self.replace(bound, b"")

    # Statements

    def at_If(self, node):
        yield from self.negate(node.test)

    def at_While(self, node):
        yield from self.negate(node.test)

    def at_Return(self, node):
        if node.value is not None and not _is_none(node.value):
            yield from self.replace(node.value, b"None")

    def at_Expr(self, node):
        if not isinstance(node.value, ast.Constant):
            yield from self.replace(node, b"pass")

    def at_Raise(self, node):
        yield from self.replace(node, b"pass")

    def at_Break(self, node):
        yield from self.replace(node, b"continue")

    def at_Continue(self, node):
        yield from self.replace(node, b"break")

    def at_Assign(self, node):
        """`x = f(x)` is left out; any other value becomes None."""
        read = {ast.dump(n) for n in ast.walk(node.value) if isinstance(n, ast.Name)}
        written = {ast.dump(t).replace("Store()", "Load()") for t in node.targets}
        if read & written:
            yield from self.replace(node, b"pass")
        elif not _is_none(node.value) and not isinstance(node.targets[0], ast.Tuple):
            yield from self.replace(node.value, b"None")

    def at_AugAssign(self, node):
        yield from self.replace(node, b"pass")
        if type(node.op) in ARITHMETIC:
            old, new = ARITHMETIC[type(node.op)]
            yield from self.source.between(node.target, node.value, f"{old}=", f"{new}=")

    def at_FunctionDef(self, node):
        yield from self.undecorate(node)
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if isinstance(default, (ast.Name, ast.Attribute)):
                yield from self.replace(default, b"None")

    def at_ClassDef(self, node):
        yield from self.undecorate(node)

    def undecorate(self, node):
        for decorator in node.decorator_list:
            start, end = self.source.span(decorator)
            yield self.source.text.rindex(b"@", 0, start), end, b""


def _left_alone(node: ast.AST) -> list[ast.AST]:
    """The children of `node` that have no mutants."""
    if isinstance(node, ast.Raise):
        return [node.exc, node.cause]
    if isinstance(node, ast.AnnAssign):
        return [node.annotation]
    if isinstance(node, ast.arg):
        return [node.annotation]
    if isinstance(node, ast.Call):
        return [k for k in node.keywords if k.arg in COSMETIC]
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        first = node.body[0] if node.body else None
        alone = [first] if isinstance(getattr(first, "value", None), ast.Constant) else []
        alone = [s for s in alone if isinstance(s, ast.Expr)]
        return [*alone, node.returns] if hasattr(node, "returns") else alone
    return []


def _is_main_block(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def _is_all(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"


def _is_not(node: ast.AST) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_type(node: ast.AST) -> bool:
    """`Float[Tensor, "batch length"]`, or a name given to such a type."""
    if isinstance(node, ast.Assign):
        node = node.value
    return isinstance(node, ast.Subscript) and getattr(node.value, "id", "") in TYPES
