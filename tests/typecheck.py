"""The type checker that pytest switches on for the package (see pyproject.toml)."""

from __future__ import annotations

from typing import TypeVar

from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintPep673Exception

T = TypeVar("T")

# An int where a float is asked for is fine, as it is for mypy (PEP 484).
_beartype = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(thing: T) -> T:
    """`thing` with its types checked at each call; one that returns Self is left to mypy.

    beartype can resolve Self on a decorated class only, and jaxtyping decorates the methods.
    """
    try:
        return _beartype(thing)
    except BeartypeDecorHintPep673Exception:
        return thing
