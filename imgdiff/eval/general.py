"""`python -m imgdiff.eval.general SCORES.csv`: delta over general benchmarks, with and without
MM-Vet.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from imgdiff.core.console import say, show_table
from imgdiff.core.errors import ImgdiffError
from imgdiff.eval.report.general import general_tables, read_scores
from imgdiff.eval.report.tables import write_markup

NAMES = ("general.md", "general.tex")
EXIT_REFUSED = 2
SHOWN_DIGITS = 1  # of changes per benchmark: eight of them fit beside a name


def run(scores: Path, output: Path | None) -> None:
    """Print the deltas of the CSV; write them as Markdown and LaTeX where a folder is given."""
    sheet = read_scores(scores)
    for table in general_tables(sheet, SHOWN_DIGITS)[:2]:
        show_table(table.title, table.header, table.rows)
        for note in table.notes:
            say(note)
    for path in write_markup(output, general_tables(sheet), NAMES) if output is not None else ():
        say(str(path))


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and run; what imgdiff refuses ends with one message and code 2."""
    parser = argparse.ArgumentParser(prog="python -m imgdiff.eval.general", description=__doc__)
    parser.add_argument("scores", type=Path, metavar="SCORES.csv")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write general.md, general.tex")
    given = parser.parse_args(arguments)
    try:
        run(given.scores, given.output)
    except ImgdiffError as error:
        sys.stderr.write(f"imgdiff.eval.general: {error}\n")
        raise SystemExit(EXIT_REFUSED) from None


if __name__ == "__main__":
    main()
