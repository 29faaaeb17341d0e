"""Articles, template sentences and the verbatim prompts."""

import pytest

from imgdiff.synth.wording import (
    QUESTION,
    REGION_PROMPT,
    SENTENCE_PROMPT,
    indefinite,
    template_sentence,
    truthful_content,
)


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("dog", "a dog"),
        ("apple", "an apple"),
        ("hourglass", "an hourglass"),
        ("unicycle", "a unicycle"),
        ("umbrella", "an umbrella"),
        ("scissors", "a pair of scissors"),
        ("skis", "a pair of skis"),
        ("traffic light", "a traffic light"),
        ("oven", "an oven"),
    ],
)
def test_articles(name, phrase):
    assert indefinite(name) == phrase


def test_templates_name_both_sides_in_order_and_depend_on_the_seed_only():
    forms = {template_sentence("A dog.", "An apple.", seed) for seed in range(40)}
    assert len(forms) == 4
    for form in forms:
        assert form.lower().index("dog") < form.lower().index("an apple")
        assert ".." not in form
    assert template_sentence("A dog.", "A cat.", 3) == template_sentence("A dog.", "A cat.", 3)


def test_content():
    assert truthful_content("orange") == "An orange."


def test_prompts_are_the_published_ones():
    assert (
        REGION_PROMPT.format(box="[0.40, 0.07, 0.64, 0.18]")
        == "Please provide a clear description for this region: [0.40, 0.07, 0.64, 0.18]."
    )
    assert SENTENCE_PROMPT.startswith("Analyse the the left image and the right image")
    assert SENTENCE_PROMPT.endswith(
        "What is their difference? Answer with a few concise sentences."
    )
    assert QUESTION.startswith("Analyse the left image and the right image")
