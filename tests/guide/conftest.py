"""A small shelf of evidence for unit tests, and the whole site, built once, for the rest."""

import os
import subprocess
import sys
import threading
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

import nbformat
import pytest
import yaml
from filelock import FileLock
from markdown import Markdown

from qa_lab.claims import broken, prove, within
from qa_lab.claims.figures import figure
from qa_lab.claims.notebooks import ROOT
from qa_lab.guide.serve import Quiet

MANIFEST = {
    "chapters": {"numbers": {"en": "Numbers", "zh": "数"}},
    "sources": {"001": {"title": {"en": "A list", "zh": "清单"}}},
    "questions": [
        {
            "id": id,
            "chapter": "numbers",
            "slug": slug,
            "difficulty": 1,
            "title": {"en": f"Why {slug}?", "zh": f"为何{slug}？"},
            "short": {"en": slug, "zh": f"为何{slug}"},
            "asked_in": ["001#7"],
            "mechanisms": mechanisms,
            "reprove_seconds": 5,
            "published": slug == "ten",
        }
        for id, slug, mechanisms in ((1, "ten", ["small.ten"]), (2, "eleven", ["small.tens"]))
    ],
}
STATEMENTS = [
    {
        "id": "ten-is-large",
        "page": "ten",
        "said": [{"source": "001", "where": "Q7 L3"}],
        "en": "Ten is <large>.",
        "zh": "十\n很大。",
        "verdict": "conditional",
        "because": {"en": "Compared with one.", "zh": "与一相比。"},
        "claims": ["ten-is-ten"],
    },
    {
        "id": "eleven-is-prime",
        "page": "eleven",
        "said": [{"source": "001", "where": "Q8 L4"}],
        "en": "Eleven is prime.",
        "zh": "十一是质数。",
        "verdict": "open",
    },
]


LAB = '''"""Tens: `ten`, and what helps it. Nothing else."""

from os import path

Number = int
"""A number, as `ten` is."""


def ten(
    keep: Float[Tensor, " batch"], *, factor: int = 1, **rest: int
) -> tuple[Float[Tensor, "*batch {factor}+1"], Int[Tensor, "{factor}+1"]] | None:
    r"""Return ten.

    $$ ten = softmax_{key}(scale * 5),  out <- 2 $$

    Paper: Ten 1710, arXiv:1706.03762, section 1; and more
        of it, section 2.
    Departs: not `keep`, nor `_helper`, but [a][*b], `Number`, `Tens.total` and `Tens.size`.

    Args:
        keep: What `ten` keeps.
        factor: Dimensionless.
        **rest: Ignored.

    Returns:
        Ten, and nothing: else.
    """
    return 10 * factor


@dataclass
class Tens:
    """Some tens; see `other_tens` and `twenty()`, not `tens`."""

    count: int  # how many
    size: int
    """How large."""

    def total(self) -> int:
        """Multiply."""
        return self.count * self.size


def _helper():
    """Help."""
'''


SMALL = '''"""Small · 小.

Numbers that `tens` knows,
all of them.
"""

from qa_lab.transformer.small.tens import Number, Tens, ten
'''


OTHERS = '''"""Other tens."""


def twenty():
    """Two `ten`."""


def keep():
    """Keep nothing."""


def ten():
    """Ten again."""
'''


def ten_is_ten():
    """A claim whose numbers are typed easily: 9.9 to 10.3, and a control of a millionth of it."""
    return prove(
        "ten-is-ten",
        en="Ten is d_k & ten.",
        zh="十就是十。",
        of=("ten", "十"),
        measure=lambda seed, factor=1.0: (9.9 + seed / 10) * factor,
        bound=within(9, 11),
        control=broken("shrunk", "缩小", factor=1e-6),
        settles={"ten-is-large": "conditional"},
    )


def a_line(ax):
    """The least figure."""
    ax.plot([1, 2], [3, 4], label="a", gid="a")
    ax.set_xlabel("x (steps)")
    ax.set_ylabel("y (nats)")


@pytest.fixture(scope="session")
def shelf(tmp_path_factory) -> Path:
    """A root with a manifest, an audit, one recorded notebook, and a lab of three rooms."""
    root = tmp_path_factory.mktemp("shelf")
    (root / "docs").mkdir()
    (root / "notebooks" / "numbers").mkdir(parents=True)
    for name, content in (("questions", MANIFEST), ("statements", STATEMENTS)):
        text = yaml.safe_dump(content, allow_unicode=True)
        (root / "docs" / f"{name}.yaml").write_text(text, encoding="utf-8")
    for name, code in (
        ("__init__", ""),
        ("transformer/__init__", ""),
        ("transformer/large/__init__", '"""Large · 大.\n\nNumbers."""'),
        ("transformer/large/other_tens", OTHERS),
        ("transformer/small/__init__", SMALL),
        ("transformer/small/tens", LAB),
        ("experiments/__init__", '"""Experiments · 实验."""'),
        ("experiments/count", '"""Counts."""'),
    ):
        module = root / "qa_lab" / f"{name}.py"
        module.parent.mkdir(parents=True, exist_ok=True)
        module.write_text(code, encoding="utf-8")
    cells = []
    for source, shown in (("prove(…)", ten_is_ten()), ("figure(…)", figure("a-line", a_line))):
        data, metadata = shown._repr_mimebundle_()
        output = nbformat.v4.new_output("execute_result", data, metadata=metadata)
        cells.append(nbformat.v4.new_code_cell(source, outputs=[output], execution_count=1))
    nbformat.write(nbformat.v4.new_notebook(cells=cells), root / "notebooks/numbers/ten.ipynb")
    return root


@pytest.fixture
def page(shelf):
    """Render Markdown as a page of the guide: `page(text, language="zh")`."""

    def render(text: str, language: str = "en") -> str:
        options = {"language": language, "root": str(shelf)}
        extensions = ["tables", "qa_lab.guide.maths", "qa_lab.guide.evidence"]
        md = Markdown(extensions=extensions, extension_configs={extensions[-1]: options})
        return md.convert(text)

    return render


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """The whole site, in a folder that is not the server's root: it must work from any path.

    Built once for all the workers of a run.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    target = shared / "server" / "some" / "base"
    with FileLock(shared / "site.lock"):
        if not (shared / "built").exists():
            done = run("qa_lab.guide.build", "--site", str(target))
            assert done.returncode == 0, done.stdout + done.stderr
            (shared / "built").touch()
    return target


def run(module: str, *options: str) -> subprocess.CompletedProcess:
    """Run a module as a program, in the repository."""
    return subprocess.run(
        [sys.executable, "-m", module, *options],
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="session")
def address(site):
    """Where the site is served while the tests run."""
    handler = partial(Quiet, directory=str(site.parents[1]))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/some/base/"
        server.shutdown()
        thread.join()
