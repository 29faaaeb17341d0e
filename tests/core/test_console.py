"""What strangers wrote does not reach the terminal as commands."""

from __future__ import annotations

import pytest

from imgdiff.core.console import printable, say, show_table


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


@pytest.mark.parametrize("text", ["pip install imgdiff[java]", "[/bold] [red]x[/red]", "/a" * 90])
def test_words_are_shown_as_they_are_and_on_one_line(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    say(text)
    assert capsys.readouterr().out == f"{text}\n"


def test_a_table_reads_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    show_table("of [/x]", ("[a]", "n"), [("[java]", 1), ("\x1b[31m", 2)])
    shown = capsys.readouterr().out
    assert all(part in shown for part in ("of [/x]", "[a]", "[java]", "\ufffd[31m"))
