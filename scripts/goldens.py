"""Record the goldens: what the code gives today, for a person to read before it is committed.

    python scripts/goldens.py                    # list them
    python scripts/goldens.py internvl2-prompts  # write tests/goldens/internvl2-prompts.json anew
    python scripts/goldens.py all

A golden is a function of tests/ that returns plain JSON; a test compares the file with it. To add
one, add a line to GOLDENS. Write one anew only where a change is meant to alter it, and look at
the difference (`git diff tests/goldens`) before committing.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from imgdiff.core.console import show_table
from imgdiff.core.files import write_json

TESTS = Path(__file__).resolve().parent.parent / "tests"
GOLDENS = {  # name: (module of tests/, function)
    "llava-text": ("llava_goldens", "text"),
    "llava-loss": ("llava_goldens", "loss"),
    "internvl2-prompts": ("internvl2_goldens", "prompts"),
    "internvl2-losses": ("internvl2_goldens", "losses"),
}


def main() -> None:
    """Write the goldens that are named, or list them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="name", help="of the list, or all")
    names: list[str] = parser.parse_args().names
    unknown = sorted(set(names) - {*GOLDENS, "all"})
    if unknown:
        parser.error(f"no golden named {', '.join(unknown)}; there are {', '.join(GOLDENS)}")
    if not names:
        rows = [(name, f"tests/{module}.py") for name, (module, _) in GOLDENS.items()]
        show_table("Goldens", ("name", "made by"), rows)
        return
    sys.path.insert(0, str(TESTS))
    for name in GOLDENS if "all" in names else names:
        module, function = GOLDENS[name]
        path = TESTS / "goldens" / f"{name}.json"
        write_json(path, getattr(importlib.import_module(module), function)())
        print(f"wrote {path.relative_to(TESTS.parent)}")


if __name__ == "__main__":
    main()
