"""Build the site: the English guide, then the Chinese one inside it, strictly.

Both in one process, for much of the work is the same in either language, formulas and coloured
code above all, and is remembered. `mkdocs build` and `mkdocs serve` do for one language.
"""

import argparse
from pathlib import Path

from mkdocs.__main__ import build_command

from qa_lab.claims.notebooks import ROOT


def build(site: Path) -> None:
    """Write both languages into a folder, which is emptied before.

    Raises:
        SystemExit: Something is wrong or missing; MkDocs has said what.
    """
    for config, folder in (("mkdocs.yml", site), ("mkdocs.zh.yml", site / "zh")):
        options = ["--strict", "--config-file", str(ROOT / config), "--site-dir", str(folder)]
        try:
            build_command(options)
        except SystemExit as end:  # as every command of MkDocs ends
            if end.code:
                raise


def main() -> None:
    """Build into `build/site`, or wherever is asked for."""
    parser = argparse.ArgumentParser(prog="qa_lab.guide.build", description=__doc__)
    parser.add_argument("--site", type=Path, default=ROOT / "build" / "site")
    build(parser.parse_args().site.resolve())


if __name__ == "__main__":
    main()
