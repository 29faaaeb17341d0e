"""The command line of `python -m imgdiff.synth.stats`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from imgdiff.core.console import say
from imgdiff.core.errors import ImgdiffError
from imgdiff.synth.stats.names import read_names
from imgdiff.synth.stats.page import FILE, write_stats

EXIT_REFUSED = 2


def _arguments(values: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m imgdiff.synth.stats",
        description="Pictures of a synthesised data set, as RUN/stats.html",
    )
    parser.add_argument("run", type=Path, help="output_dir of a finished `python -m imgdiff.synth`")
    parser.add_argument(
        "--store", type=Path, default=Path("outputs/store"), help="its store_dir, for the pictures"
    )
    parser.add_argument(
        "--names", type=Path, action="append", default=[], metavar="FILE",
        help="also tell how many object names this list covers, one name a line; may be repeated",
    )  # fmt: skip
    return parser.parse_args(values)


def main(values: Sequence[str] | None = None) -> None:
    """Write the page; what is refused ends with one message and exit code 2."""
    arguments = _arguments(values)
    try:
        lists = tuple(read_names(path) for path in arguments.names)
        write_stats(arguments.run, arguments.store, lists)
    except ImgdiffError as error:
        sys.stderr.write(f"imgdiff.synth.stats: {error}\n")
        sys.exit(EXIT_REFUSED)
    say(f"{arguments.run / FILE}")
