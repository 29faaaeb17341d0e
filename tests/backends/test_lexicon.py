"""Noun replacement: what is found, what is left alone, and how the new sentence is spelled."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgdiff.backends.english import article_for, plural_of, tokens_of
from imgdiff.backends.lexicon import LexiconConfig, LexiconEditor
from imgdiff.backends.lexicon_table import Entry, Table, load
from imgdiff.backends.world import world_captions
from imgdiff.core.errors import ConfigError, DataError
from imgdiff.mini.language import parse_caption
from imgdiff.mini.shapes import CATEGORIES

SEEDS = range(12)
PAPER_CATEGORIES = set(
    """machine living_thing natural_object fruit vehicle container clothing fixture appliance
    furniture food""".split()
)


@pytest.fixture(scope="module")
def everyday() -> LexiconEditor:
    return LexiconConfig().build()


def table(tmp_path: Path, rows: str) -> LexiconEditor:
    """An editor over a small table, where every edit can be told in advance."""
    path = tmp_path / "small.csv"
    path.write_text("name,category,group,number,plural,same_as,is_a\n" + rows, encoding="utf-8")
    return LexiconConfig(lexicon=str(path)).build()


def edits(editor: LexiconEditor, caption: str) -> set[str]:
    """Everything the seeds make of a caption: new texts or refusals."""
    return {r.text or r.refusal for r in editor.edit([caption] * len(SEEDS), list(SEEDS))}


TWO = "dog,animal\nelephant,animal\n"
SMALL = {
    "article grows": (TWO, "A dog runs.", "An elephant runs."),
    "article shrinks": (TWO, "an elephant runs", "a dog runs"),
    "article with an adjective between": (TWO, "A small dog.", "A small elephant."),
    "no article": (TWO, "the dog.", "the elephant."),
    "sentence start": (TWO, "Dogs run.", "Elephants run."),
    "capitals throughout": (TWO, "A DOG RUNS", "AN ELEPHANT RUNS"),
    "title case": (TWO, "A Dog Running Away", "An Elephant Running Away"),
    "plural stays plural": (TWO, "two dogs", "two elephants"),
    "colour stays": (TWO, "a black and white dog", "a black and white elephant"),
    "emoji": (TWO, "🐶 a dog 🐶", "🐶 an elephant 🐶"),
    "blanks stay": (TWO, "a  dog ,  running", "an  elephant ,  running"),
    "hyphenated word": (TWO, "a long-haired dog", "a long-haired elephant"),
    "irregular plural": ("child,person\nman,person\n", "three children", "three men"),
    "given plural": (
        "person,living,,,people\nox,living,,,oxen\n",
        "a group of people",
        "a group of oxen",
    ),
    "one form, told by the article": ("sheep,a\nwolf,a\n", "a white sheep", "a white wolf"),
    "one form, told by the number": ("sheep,a\nwolf,a\n", "two white sheep", "two white wolves"),
    "one form, told by the verb": (
        "sheep,a\nwolf,a\n",
        "The sheep are grazing",
        "The wolves are grazing",
    ),
    "one form, told by a measure": ("sheep,a\nwolf,a\n", "a herd of sheep", "a herd of wolves"),
    "one form, untold": ("sheep,a\nwolf,a\n", "The sheep near the lake", "no known object"),
    "mass": ("rice,food,,mass\nsoup,food,,mass\ncake,food\n", "some rice", "some soup"),
    "mass is not counted": (
        "rice,food,,mass\ncake,food\n",
        "a cake",
        "no other noun in its category",
    ),
    "pair": ("jeans,clothing,,pair\nshorts,clothing,,pair\n", "blue jeans", "blue shorts"),
    "several words": (
        "fire truck,vehicle\ntruck,vehicle\nboat,vehicle\n",
        "a fire truck",
        "a boat",
    ),
    "modifiers go with their noun": (
        "bench,f\narmchair,f\n",
        "a wooden park bench",
        "a wooden armchair",
    ),
    "a modifier of two words": ("table,f\nbench,f\n", "A dining room table", "A bench"),
    "the foot of it": ("mountain,n\nlake,n\n", "near the mountain base", "no known object"),
    "material stays": ("table,f\nchair,f\n", "a glass table", "a glass chair"),
    "first part of a compound": (TWO, "a dog house", "no known object"),
    "compound with a verb's look": ("train,v\ncar,v\n", "the train tracks", "no known object"),
    "part of another name": ("car,v\nvan,v\nwindow,w\ndoor,w\n", "a car window", "a door"),
    "verb after a noun": (TWO, "a dog sits", "an elephant sits"),
    "verb after a plural": (TWO, "dogs play", "elephants play"),
    "participle after it": (TWO, "a dog lying down", "an elephant lying down"),
    "verb that looks like a name": (
        "park,place\nlake,place\n",
        "a car parked there",
        "no known object",
    ),
    "verb that looks like a plural": (
        "woman,living_thing\nwatch,thing\nring,thing\n",
        "A woman watches it",
        "no other noun in its category",
    ),
    "colour": ("orange,fruit\napple,fruit\n", "an orange and white cat", "no known object"),
    "fruit": ("orange,fruit\napple,fruit\n", "an orange on a plate", "an apple on a plate"),
    "colour before a noun": ("orange,fruit\napple,fruit\n", "an orange cat", "no known object"),
    "top of": ("top,c\nshirt,c\nvest,c\n", "a shirt on top of it", "a vest on top of it"),
    "not one thing": ("train,v\ncar,v\n", "going by train", "no known object"),
    "name of somebody": ("rose,plant\ntulip,plant\n", "We met Rose in town", "no known object"),
    "other use": ("plate,c\nbowl,c\n", "sliding into home plate", "no known object"),
    "twice the same": (TWO, "a dog and another dog", "no known object"),
    "all of its category are there": (
        TWO,
        "a dog and an elephant",
        "no other noun in its category",
    ),
    "synonym is found": (
        "bicycle,v\nbike,v,,,,bicycle,\ncar,v\n",
        "riding a bike",
        "riding a car",
    ),
    "synonym and kind are no change": (
        "car,v\nauto,v,,,,car\ntaxi,v,,,,,car\n",
        "a car",
        "no other noun in its category",
    ),
    "stone covered": ("stone,n\nrock,n\n", "a stone covered walkway", "no known object"),
    "a couple": (TWO, "a couple dogs", "a couple elephants"),
    "number that disagrees": (TWO, "a dogs", "no known object"),
    "modifier of two words": (
        "hot dog,food\ncake,food\npie,food\n",
        "a big hot dog cake",
        "a big pie",
    ),
    "verb after a living thing": (
        "boy,living_thing\ngirl,living_thing\nskateboard,v\nsled,v\n",
        "A young boy skateboards",
        "A young girl skateboards",
    ),
    "he": (
        "king,p\nqueen,p,,,,,woman\nwoman,p\n",
        "A king and his hat",
        "no other noun in its category",
    ),
}


@pytest.mark.parametrize("case", SMALL)
def test_edits_of_a_small_table(case: str, tmp_path: Path) -> None:
    rows, caption, expected = SMALL[case]
    assert edits(table(tmp_path, rows), caption) == {expected}


@pytest.mark.parametrize(
    ("caption", "refusal"),
    [
        ("", "caption has no letters"),
        ("   \n", "caption has no letters"),
        ("... 42 !", "caption has no letters"),
        ("🐶🐱", "caption has no letters"),
        ("כלב על הספה", "no known object"),
        ("一只猫", "no known object"),
        ("Beautiful and quiet.", "no known object"),
        ("In front of the light blue top of it", "no known object"),
        ("word " * 200, "no known object"),
    ],
)
def test_nothing_to_edit(caption: str, refusal: str, everyday: LexiconEditor) -> None:
    assert edits(everyday, caption) == {refusal}


@pytest.mark.parametrize("caption", ["", " ", "...", "\x00", "!?"])
def test_a_caption_without_a_word_has_no_token(caption: str) -> None:
    assert tokens_of(caption) == []


def test_two_hundred_words_with_an_object(everyday: LexiconEditor) -> None:
    caption = "very " * 200 + "late a dog sleeps"
    assert all(text.startswith("very " * 200 + "late a") for text in edits(everyday, caption))


def test_right_to_left_text_around_a_noun_stays(tmp_path: Path) -> None:
    assert edits(table(tmp_path, TWO), "שלום: a dog, שלום") == {"שלום: an elephant, שלום"}


def test_the_seed_decides_alone(everyday: LexiconEditor) -> None:
    captions = [f"A dog and a cat near {n} cars." for n in range(2, 30)]
    seeds = list(range(2**63 - 28, 2**63))
    together = everyday.edit(captions, seeds)
    alone = [everyday.edit([c], [s])[0] for c, s in zip(captions, seeds, strict=True)]
    backwards = everyday.edit(captions[::-1], seeds[::-1])[::-1]
    assert together == alone == backwards
    assert together == LexiconConfig().build().edit(captions, seeds)
    assert len({edit.text for edit in everyday.edit(captions[:1] * 60, list(range(60)))}) > 30


def test_never_the_same_caption(everyday: LexiconEditor) -> None:
    caption = "A man on a bench holds a pizza, an umbrella and a laptop by the truck."
    assert caption not in edits(everyday, caption)


def test_within_group_is_nearer_than_the_category(everyday: LexiconEditor) -> None:
    near = edits(everyday, "A bus.")
    whole = edits(LexiconConfig(within_group=False).build(), "A bus.")
    entries = {entry.name: entry for entry in load("everyday")}

    def groups(texts: set[str]) -> set[str]:
        return {entries[text[:-1].split(" ", 1)[1]].group for text in texts}

    assert groups(near) == {"land"}
    assert len(groups(whole)) > 3


def test_edits_stay_in_their_category(everyday: LexiconEditor) -> None:
    entries = load("everyday")
    by_form = {entry.name: entry for entry in entries}
    told = [entry for entry in entries if entry.number == "count" and entry.plural != entry.name]
    told = told[::3]  # each takes a while with types checked
    results = everyday.edit([f"this {entry.name}" for entry in told], range(len(told)))
    for entry, result in zip(told, results, strict=True):
        assert result.text, entry.name
        new = by_form[result.text.removeprefix("this ")]
        assert new.category == entry.category
        assert new.thing != entry.thing
        assert not new.same_as


def test_the_everyday_lexicon() -> None:
    entries = load("everyday")
    assert {entry.category for entry in entries} == PAPER_CATEGORIES
    drawn = [entry for entry in entries if not entry.same_as]
    assert len(drawn) >= 450
    assert all(sum(e.category == c for e in drawn) >= 30 for c in PAPER_CATEGORIES)
    names = {entry.name: entry for entry in entries}
    for entry in entries:
        if entry.same_as:
            other = names[entry.same_as]
            assert (entry.category, entry.group) == (other.category, other.group), entry.name


def test_edits_of_world_captions_can_be_drawn() -> None:
    editor = LexiconConfig(lexicon="world").build()
    captions = [caption.text for caption in world_captions("train", 200, 0)]
    for before, result in zip(captions, editor.edit(captions, range(200)), strict=True):
        left, right = parse_caption(before), parse_caption(result.text)
        changed = [
            (old.category, new.category)
            for old, new in zip(left.objects, right.objects, strict=True)
            if old.category != new.category
        ]
        assert len(changed) == 1
        assert len({CATEGORIES[name] for name in changed[0]}) == 1
        assert (left.relation, left.ground) == (right.relation, right.ground)


@pytest.mark.parametrize(
    ("phrase", "article"),
    [
        ("hour", "an"), ("honest man", "an"), ("umbrella", "an"), ("urn", "an"), ("owl", "an"),
        ("unicorn", "a"), ("university", "a"), ("European car", "a"), ("one-way street", "a"),
        ("uniform", "a"), ("ukulele", "a"), ("urinal", "a"), ("utility pole", "a"), ("ewe", "a"),
        ("SUV", "an"), ("RV", "an"), ("MP3 player", "an"), ("x-ray", "an"), ("8-year-old", "an"),
        ("onesie", "a"), ("one-eyed cat", "a"), ("onion", "an"),
        ("TV", "a"), ("hot dog", "a"), ("horse", "a"), ("3d printer", "a"), ("ice cream", "an"),
        ("underpass", "an"), ("unusual cat", "an"), ("user", "a"), ("hero", "a"), ("", "a"),
    ],
)  # fmt: skip
def test_articles(phrase: str, article: str) -> None:
    assert article_for(phrase) == article


@pytest.mark.parametrize(
    ("name", "plural"),
    [
        ("dog", "dogs"), ("child", "children"), ("wine glass", "wine glasses"), ("knife", "knives"),
        ("fire truck", "fire trucks"), ("sheep", "sheep"), ("bus", "buses"), ("goose", "geese"),
    ],
)  # fmt: skip
def test_plurals(name: str, plural: str) -> None:
    assert plural_of(name) == plural


def test_identity_follows_the_table_and_the_setting(tmp_path: Path) -> None:
    identities = {
        LexiconConfig().build().identity,
        LexiconConfig(within_group=False).build().identity,
        LexiconConfig(lexicon="world").build().identity,
        table(tmp_path, TWO).identity,
        table(tmp_path, TWO + "cat,animal\n").identity,
    }
    assert len(identities) == 5
    assert LexiconConfig().build().identity in identities


def test_it_is_a_context_manager() -> None:
    with LexiconConfig(lexicon="world").build() as editor:
        assert editor.edit([], []) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "columns ; needs name,category"),
        (b"noun,category\ndog,animal\n", "columns noun,category; needs name,category"),
        (b"name,category,colour\n", "may have group,number"),
        (b"name,category\n", "no names in it"),
        (b"name,category\ndog,\n", r"bad\.csv:2: .*must be set"),
        (b"name,category\n,animal\n", r"bad\.csv:2: .*must be set"),
        (b"name,category\ndog\n", r"bad\.csv:2: .*must be set"),
        (b"name,category\ndog,a\nDog ,a\n", r"bad\.csv:3: 'dog' is listed twice"),
        (b"name,category,number\ndog,a,many\n", "one of count, mass, pair"),
        (b"name,category,is_a\ndog,a,beast\n", "refers to 'beast'"),
        (b"name,category\nd\xffg,a\n", "not a CSV file in UTF-8"),
    ],
)
def test_bad_tables(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        LexiconConfig(lexicon=str(path)).build()


def test_a_spreadsheet_export_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(b"\xef\xbb\xbfname,category\r\n Fire  Truck ,vehicle\r\nboat,vehicle\r\n")
    assert edits(LexiconConfig(lexicon=str(path)).build(), "a fire truck") == {"a boat"}


def test_wrong_settings(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"editor\.lexicon=''.*everyday, wordnet, world"):
        LexiconConfig(lexicon="")
    with pytest.raises(ConfigError, match=r"editor\.lexicon=nowhere.*no such lexicon or file"):
        LexiconConfig(lexicon="nowhere").build()
    with pytest.raises(ConfigError, match="no such lexicon"):
        LexiconConfig(lexicon=str(tmp_path)).build()


def test_kinds_are_related_over_several_steps() -> None:
    rows = [("animal", ""), ("dog", "animal"), ("poodle", "dog"), ("cat", "animal")]
    entries = [Entry(name=n, category="a", plural=f"{n}s", is_a=k) for n, k in rows]
    looked_up = Table(entries)

    def beside(*indices: int) -> list[str]:
        return [e.name for e in looked_up.unrelated("a", [entries[i] for i in indices])]

    assert beside(0) == []  # everything there is an animal
    assert beside(1) == ["cat"]
    assert beside(2) == ["cat"]
    assert beside(3) == ["dog", "poodle"]
    assert beside(2, 3) == []
