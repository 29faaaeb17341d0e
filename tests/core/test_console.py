"""What strangers wrote does not reach the terminal as commands."""

from __future__ import annotations

import pytest

from imgdiff.core.console import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, é日本🙂\n\tnext", "plain text, é日本🙂\n\tnext"),
        ("\x1b[31mred\x1b[0m", "\ufffd[31mred\ufffd[0m"),
        ("a\x00b\x07c\x7fd\x9be", "a\ufffdb\ufffdc\ufffdd\ufffde"),
        ("\r\x08", "\ufffd\ufffd"),
        ("half \ud83d", "half \ufffd"),
        ("", ""),
    ],
)
def test_control_characters_are_shown_as_such(text: str, shown: str) -> None:
    assert printable(text) == shown
