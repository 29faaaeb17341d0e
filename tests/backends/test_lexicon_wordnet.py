"""The lexicon of nouns from WordNet: how it is made, what holds for it, and what it does."""

from __future__ import annotations

import collections
import csv
from pathlib import Path

import pytest

from imgdiff.backends.english import article_for
from imgdiff.backends.lexicon import LexiconConfig, LexiconEditor
from imgdiff.backends.lexicon_table import DATA, Entry, Table, load
from imgdiff.core.errors import DataError
from scripts import wordnet_lexicon as maker

DICTIONARY = Path("/usr/share/wordnet")
SIZES = {  # names of each category, synonyms included
    "appliance": 89, "clothing": 299, "container": 260, "fixture": 336, "food": 364, "fruit": 85,
    "furniture": 136, "living_thing": 807, "machine": 149, "natural_object": 302, "vehicle": 278,
}  # fmt: skip


@pytest.fixture(scope="module")
def entries() -> dict[str, Entry]:
    return {entry.name: entry for entry in load("wordnet")}


@pytest.fixture(scope="module")
def editor() -> LexiconEditor:
    return LexiconConfig(lexicon="wordnet").build()


def edits(editor: LexiconEditor, caption: str, seeds: int = 12) -> set[str]:
    return {r.text or r.refusal for r in editor.edit([caption] * seeds, range(seeds))}


@pytest.mark.skipif(not (DICTIONARY / "data.noun").is_file(), reason="needs wordnet-base")
def test_the_same_dictionary_gives_the_same_bytes() -> None:
    made = maker.as_csv(maker.entries_of(maker.read_dictionary(DICTIONARY)))
    assert made == (DATA / "wordnet.csv").read_text("utf-8")


def test_the_categories_have_their_sizes(entries: dict[str, Entry]) -> None:
    assert collections.Counter(entry.category for entry in entries.values()) == SIZES
    drawn = [entry for entry in entries.values() if not entry.same_as]
    assert len(drawn) > 2 * len([entry for entry in load("everyday") if not entry.same_as])


def test_a_name_stands_for_one_thing(entries: dict[str, Entry]) -> None:
    with (DATA / "wordnet.csv").open(encoding="utf-8", newline="") as handle:
        names = [row["name"] for row in csv.DictReader(handle)]
    assert len(names) == len(set(names))
    for entry in entries.values():
        if entry.same_as:
            other = entries[entry.same_as]
            assert (other.category, other.group) == (entry.category, entry.group), entry.name


def test_forms_lead_back_to_their_names(entries: dict[str, Entry]) -> None:
    """No plural is another thing's name, and no two things share one."""
    owners: dict[str, set[str]] = collections.defaultdict(set)
    for entry in entries.values():
        owners[entry.name].add(entry.thing)
        owners[entry.plural].add(entry.thing)
    assert {form: things for form, things in owners.items() if len(things) > 1} == {}


def test_names_are_plain_words(entries: dict[str, Entry]) -> None:
    odd = {name for name in entries if not maker.PLAIN.fullmatch(name)}
    assert odd == {"jack-o'-lantern", "venus's flytrap"}
    assert max(len(name.split(" ")) for name in entries) <= 4


def test_the_kinds_have_an_end(entries: dict[str, Entry]) -> None:
    table = Table(tuple(entries.values()))
    assert table.line(entries["poodle"]) == {"poodle", "dog"}
    assert table.line(entries["dinghy"]) >= {"rowboat", "boat"}
    for entry in entries.values():
        line, kind = [entry.thing], entries[entry.thing].is_a
        while kind:
            assert kind not in line, line
            line.append(kind)
            kind = entries[kind].is_a


@pytest.mark.parametrize(
    ("name", "category", "article", "plural"),
    [
        ("wolf", "living_thing", "a", "wolves"), ("mouse", "living_thing", "a", "mice"),
        ("sheep", "living_thing", "a", "sheep"), ("ox", "living_thing", "an", "oxen"),
        ("wild ox", "living_thing", "a", "wild oxen"), ("goose", "living_thing", "a", "geese"),
        ("unicorn", "living_thing", "a", "unicorns"), ("ewe", "living_thing", "a", "ewes"),
        ("octopus", "living_thing", "an", "octopuses"), ("deer", "living_thing", "a", "deer"),
        ("clown anemone fish", "living_thing", "a", "clown anemone fish"),
        ("goldfish", "living_thing", "a", "goldfish"), ("emu", "living_thing", "an", "emus"),
        ("person", "living_thing", "a", "people"), ("child", "living_thing", "a", "children"),
        ("policeman", "living_thing", "a", "policemen"), ("okapi", "living_thing", "an", "okapis"),
        ("bird of prey", "living_thing", "a", "birds of prey"),
        ("hourglass", "appliance", "an", "hourglasses"), ("iron", "", "", ""),
        ("fire hydrant", "fixture", "a", "fire hydrants"),
        ("flight of stairs", "fixture", "a", "flights of stairs"),
        ("igloo", "fixture", "an", "igloos"), ("urinal", "fixture", "a", "urinals"),
        ("x-ray", "", "", ""), ("knife", "", "", ""), ("shelf", "furniture", "a", "shelves"),
        ("chest of drawers", "furniture", "a", "chests of drawers"),
        ("ottoman", "furniture", "an", "ottomans"),
        ("loaf of bread", "food", "a", "loaves of bread"),
        ("tomato", "food", "a", "tomatoes"), ("egg", "food", "an", "eggs"),
        ("cherry", "fruit", "a", "cherries"), ("ugli", "", "", ""),
        ("leaf", "natural_object", "a", "leaves"), ("cactus", "natural_object", "a", "cacti"),
        ("oasis", "natural_object", "an", "oases"), ("volcano", "natural_object", "a", "volcanoes"),
        ("unicycle", "vehicle", "a", "unicycles"), ("taxi", "vehicle", "a", "taxis"),
        ("school bus", "vehicle", "a", "school buses"), ("aircraft", "vehicle", "an", "aircraft"),
        ("wineglass", "container", "a", "wineglasses"), ("urn", "container", "an", "urns"),
        ("wristwatch", "clothing", "a", "wristwatches"), ("scarf", "clothing", "a", "scarves"),
        ("uniform", "clothing", "a", "uniforms"),
        ("computer mouse", "machine", "a", "computer mice"),
    ],
)  # fmt: skip
def test_forms_of_tricky_words(
    name: str, category: str, article: str, plural: str, entries: dict[str, Entry]
) -> None:
    """An empty category: the word is not in the list."""
    entry = entries.get(name)
    assert (entry.category if entry else "") == category
    if entry:
        assert (article_for(name), entry.number, entry.plural) == (article, "count", plural)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("ice cream", "mass"), ("rice", "mass"), ("broccoli", "mass"), ("coffee", "mass"),
        ("jeans", "pair"), ("sunglasses", "pair"), ("trousers", "pair"), ("tights", "pair"),
        ("glass", "count"), ("dress", "count"), ("bus", "count"), ("lettuce", "mass"),
    ],
)  # fmt: skip
def test_what_is_counted(name: str, number: str, entries: dict[str, Entry]) -> None:
    assert entries[name].number == number


def test_nothing_that_offends_and_no_latin(entries: dict[str, Entry]) -> None:
    words = {word for name in entries for word in name.split(" ")}
    refused = """bitch whore negro savage slave idiot cripple corpse prostitute brothel panty bra
        jockstrap brassiere genus felis canis equus homo sapiens rifle pistol bomb gun nazi"""
    assert words.isdisjoint(refused.split())


SENTENCES = {
    "mass stays mass": "some ice cream on a plate",
    "a pair stays a pair": "a man in jeans",
    "one form, told by the number": "two sheep in a field",
    "several words": "a fire hydrant on the street",
    "capitals": "A FIRE HYDRANT",
    "irregular": "three wolves",
}


@pytest.mark.parametrize("case", SENTENCES)
def test_edits_stay_in_category_and_number(case: str, editor: LexiconEditor) -> None:
    table = Table(load("wordnet"))
    forms = {entry.name: entry for entry in table.entries}
    plurals = {entry.plural: entry for entry in table.entries if entry.number == "count"}
    caption = SENTENCES[case]
    old, new = caption.lower().split(), [t.lower().split() for t in edits(editor, caption)]
    assert len(new) > 1
    for words in new:
        start = next(i for i, w in enumerate(words) if i >= len(old) or w != old[i])
        joined = " ".join(words[start:])
        found = [n for n in (*forms, *plurals) if joined.startswith(n)]
        assert found or words[start] in ("a", "an"), joined


@pytest.mark.parametrize(
    ("caption", "untouched"),
    [
        ("an olive and white jacket on a hanger", "an olive and white"),
        ("a shirt in lavender", "in lavender"),
        ("a dog near the kitchen island", "near the kitchen island"),
        ("a pitcher of water beside a dog", "a pitcher of water beside"),
        ("a batter at home plate", "at home plate"),
        ("The man can see a dog", "can see"),
        ("some people riding on horses", "riding on"),
        ("a girl leaves a house", "leaves"),
        ("a man wearing glasses and a hat", "wearing glasses and a"),
        ("a woman with glasses on a bench", "with glasses on a"),
        ("a boy next to a kite", "next to a kite"),
    ],
)
def test_other_uses_are_left_alone(caption: str, untouched: str, editor: LexiconEditor) -> None:
    found = edits(editor, caption, seeds=15)
    assert all(untouched in text for text in found if text != "no known object"), found


def test_the_identity_holds_the_table(editor: LexiconEditor) -> None:
    assert editor.identity.startswith("lexicon:wordnet@")
    assert editor.identity != LexiconConfig().build().identity
    assert editor.identity != LexiconConfig(lexicon="wordnet", within_group=False).build().identity


def test_the_licence_is_beside_the_list() -> None:
    text = (DATA / "wordnet.LICENSE.txt").read_text("utf-8")
    assert "WordNet 3.0 Copyright 2006 by Princeton University.  All rights reserved." in text
    assert "Permission to use, copy, modify and distribute" in text


def test_a_missing_dictionary_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.noun: no such file.*wordnet-base.*--dictionary"):
        maker.read_dictionary(tmp_path)
