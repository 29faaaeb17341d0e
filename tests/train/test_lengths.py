"""Token counts equal what the reader encodes; what fits, what is cut, what is left out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plan_parts import TinyReader, picture, table_of, talk

from imgdiff.backends.chat_templates import IGNORED
from imgdiff.core.errors import ConfigError, DataError
from imgdiff.train import fit_check, lengths
from imgdiff.train.fit_check import check_fit
from imgdiff.train.lengths import RowEncoder, count_tokens, most_tokens, token_lengths
from imgdiff.train.source_config import ImageCheck, OnDefect, Pairs, RowRules, SourceConfig
from imgdiff.train.table import Table, open_table

ODD = [
    "ü \ufdfa \U0001f600",
    "a  b   c\n\n\td",
    "</s> ASSISTANT: USER:",
    "<unk><pad><s>",
    "\u0958" * 20,
]


@pytest.fixture(scope="module")
def reader() -> TinyReader:
    from imgdiff.mini.build.llama_tokenizer import build_tokenizer

    return TinyReader(build_tokenizer(pieces=420))


def mixed_table(folder: Path) -> Table:
    """Rows of many kinds: images of several sizes, pairs, several turns, odd text."""
    picture(folder, "a.png", (32, 8))
    picture(folder, "b.png", (160, 8))
    rows: list[dict[str, Any]] = [talk(words) for words in range(1, 40)]
    rows += [talk(words, "ab"[words % 2] + ".png") for words in range(1, 40)]
    rows += [talk(3) | {"image": ["a.png", "b.png"]}]
    for text in ODD:
        turns = [{"from": "human", "value": text}, {"from": "gpt", "value": text[::-1]}]
        rows += [{"conversations": turns * 3}, {"conversations": turns, "image": "a.png"}]
    return table_of(folder, rows)


def exact(table: Table, reader: TinyReader) -> list[int]:
    encode = RowEncoder(table, reader)
    return [len(encode(row).input_ids) for row in range(len(table))]


def test_counts_equal_the_reader(
    tmp_path: Path, reader: TinyReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lengths, "CHUNK_ROWS", 16)
    table = mixed_table(tmp_path)
    found = token_lengths(table, reader)
    assert found.tokens_N.tolist() == exact(table, reader)
    some = np.array([77, 3, 40])
    assert count_tokens(table, reader, some, 1).tolist() == found.tokens_N[some].tolist()
    assert count_tokens(table, reader, some[:0]).tolist() == []


def test_large_sources_are_estimated_from_a_part(
    tmp_path: Path, reader: TinyReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The small source stays exact; of the large one what was counted is, and the rest is near."""
    monkeypatch.setattr(lengths, "EXACT_ROWS", 20)
    monkeypatch.setattr(lengths, "SAMPLED_ROWS", 10)
    picture(tmp_path, "a.png", (32, 8))
    rng = np.random.default_rng(0)
    words = rng.integers(1, 200, 300)
    rows = [talk(int(n), "a.png" if k % 3 else None) for k, n in enumerate(words)]
    (tmp_path / "large.json").write_text(json.dumps(rows))
    (tmp_path / "small.json").write_text(json.dumps([talk(n) for n in range(1, 20)]))
    sources = {
        name: SourceConfig(path=str(tmp_path / f"{name}.json"), images=str(tmp_path))
        for name in ("large", "small")
    }
    table = open_table(sources, RowRules(), tmp_path / "cache")
    found, truth = token_lengths(table, reader).tokens_N, np.array(exact(table, reader))
    assert found[300:].tolist() == truth[300:].tolist()
    sampled = np.arange(10) * 30
    assert found[sampled].tolist() == truth[sampled].tolist()
    assert 0 < np.abs(found - truth).mean() < 0.02 * truth.mean()
    assert np.abs(found - truth).max() < 0.05 * truth.max()


def test_the_bound_holds_and_clears_most_rows(tmp_path: Path, reader: TinyReader) -> None:
    table = mixed_table(tmp_path)
    tokens, bound = np.array(exact(table, reader)), most_tokens(table, reader).whole_N
    assert (bound >= tokens).all()
    assert bound.max() < tokens.max() + 600  # text of a byte per token, and little more


def test_counts_are_kept_beside_the_table(
    tmp_path: Path, reader: TinyReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = table_of(tmp_path, [talk(3), talk(4)])
    first = token_lengths(table, reader)
    monkeypatch.setattr(lengths, "count_tokens", lambda *_: pytest.fail("counted again"))
    again = token_lengths(Table(table.folder), reader)
    assert (again.identity, again.tokens_N.tolist()) == (first.identity, first.tokens_N.tolist())
    other = TinyReader(reader.tokenizer)
    other.identity = "other"
    with pytest.raises(pytest.fail.Exception, match="counted again"):
        token_lengths(table, other)


class SilentReader(TinyReader):
    """Adds a token that its tokenizer does not know of."""

    def encode(self, turns: Any, image_tokens: Any = ()) -> Any:
        found = super().encode(turns, image_tokens)
        if found.labels and any(label != IGNORED for label in found.labels):
            return type(found)(input_ids=[*found.input_ids, 5], labels=[*found.labels, IGNORED])
        return found


def test_a_reader_that_counts_otherwise_is_encoded_row_by_row(
    tmp_path: Path, reader: TinyReader
) -> None:
    table = table_of(tmp_path, [talk(words) for words in range(1, 9)])
    silent = SilentReader(reader.tokenizer)
    assert token_lengths(table, silent).tokens_N.tolist() == exact(table, silent)


def cut_table(folder: Path) -> Table:
    """Short, long answer, long question, image behind the cut."""
    picture(folder, "a.png", (160, 8))
    long = " ".join(["word"] * 100)
    late = [
        {"from": "human", "value": "Hi"}, {"from": "gpt", "value": long},
        {"from": "human", "value": "<image>\nAnd?"}, {"from": "gpt", "value": "Yes"},
    ]  # fmt: skip
    asked = [{"from": "human", "value": long}, {"from": "gpt", "value": "Yes"}]
    return table_of(
        folder,
        [talk(1), talk(100), {"conversations": asked}, {"conversations": late, "image": "a.png"}],
    )


def test_what_is_cut_and_what_is_left_out(tmp_path: Path, reader: TinyReader) -> None:
    table = cut_table(tmp_path)
    limit = exact(table, reader)[0] + 20
    fit = check_fit(table, reader, limit, OnDefect.skip)
    assert (fit.excluded.tolist(), fit.truncated) == ([2, 3], 1)
    assert fit.notices == (
        f"1 samples are cut at {limit} tokens",
        f"1 samples left out: cut at {limit} tokens, no answer is left",
        f"1 samples left out: cut at {limit} tokens, an image would be cut",
    )
    again = check_fit(table, reader, limit, OnDefect.skip)  # found in the folder
    assert again.notices == fit.notices
    with pytest.raises(DataError, match=r"sample 2 .*max_tokens=\d+, and no answer is left"):
        check_fit(table, reader, limit, OnDefect.fail)
    everything = check_fit(table, reader, 1_000_000, OnDefect.fail)
    assert (everything.excluded.tolist(), everything.truncated) == ([], 0)


def test_rows_whose_answer_surely_begins_in_time_are_not_tokenised(
    tmp_path: Path, reader: TinyReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "word " * 900}]
    table = table_of(tmp_path, [talk(1), {"conversations": answered}])
    bounds = most_tokens(table, reader)
    limit = int(bounds.opening_N[1]) + 50
    assert exact(table, reader)[1] > limit > exact(table, reader)[0]
    seen = []

    def count(*values: Any, **more: Any) -> Any:
        seen.append(values[2].tolist())
        return count_tokens(*values, **more)

    monkeypatch.setattr(fit_check, "count_tokens", count)
    fit = check_fit(table, reader, limit, OnDefect.fail)
    assert [rows for rows in seen if rows] == []
    assert (fit.excluded.tolist(), fit.truncated) == ([], 0)
    assert fit.notices == (f"0 to 1 samples are cut at {limit} tokens",)


def test_rows_that_the_reader_refuses_are_named(tmp_path: Path, reader: TinyReader) -> None:
    """Two images in one message collapse to one in LLaVA: the pair must be one image there."""
    pair = {"image": [picture(tmp_path), picture(tmp_path, "b.png")]}
    table = table_of(tmp_path, [talk(1), talk(2) | pair], RowRules(pairs=Pairs.separate))
    for count in (
        lambda: token_lengths(table, reader),
        lambda: check_fit(table, reader, 4096, OnDefect.skip),
    ):
        with pytest.raises(DataError, match=r"data\.json: sample 1 .*shows 1 image.* 2 were given"):
            count()


def test_sizes_are_needed(tmp_path: Path, reader: TinyReader) -> None:
    table = table_of(tmp_path, [talk(1, picture(tmp_path))], RowRules(images=ImageCheck.exists))
    with pytest.raises(ConfigError, match="images=exists: token counts need the sizes"):
        token_lengths(table, reader)
    with pytest.raises(ConfigError, match="images=exists"):
        check_fit(table, reader, 100, OnDefect.fail)
    with pytest.raises(ConfigError, match="max_tokens=0"):
        check_fit(table, reader, 0, OnDefect.fail)


LIGHT = """
import sys
import imgdiff.train.plan, imgdiff.train.table_build, imgdiff.train.fit_check
print(*sorted({"torch", "transformers", "lightning"} & set(sys.modules)))
"""


def test_planning_imports_no_deep_learning() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIGHT], capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert (done.stdout.strip(), done.stderr) == ("", "")
