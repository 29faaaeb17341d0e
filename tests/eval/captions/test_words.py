import pytest

from imgdiff.eval.captions import ptb
from imgdiff.eval.captions.words import tokenize

# Texts on which the approximation and the PTB tokenizer agree.
TOKENS = [
    ("The man isn't there anymore.", "the man is n't there anymore"),
    ("the dog\u2019s tail (left)", "the dog 's tail -lrb- left -rrb-"),
    ("[x] {y}", "-lsb- x -rsb- -lcb- y -rcb-"),
    ('She says "stop", then -- goes; on: why?!', "she says stop then goes on why ?!"),
    ("wait\u2026 what.. no.... ok", "wait what no ok"),
    ("I can't, I cannot; gonna, wanna, gimme", "i ca n't i can not gon na wan na gim me"),
    ("we'll they're he'd I've I'm 90's", "we 'll they 're he 'd i 've i 'm 90 's"),
    ("black-and-white T-shirt, left - right", "black-and-white t-shirt left right"),
    ("1,000 of 3.5 at 10:30, 1/2", "1,000 of 3.5 at 10:30 1/2"),
    ("12-14, 2nd, $5, 50%", "12-14 2nd $ 5 50 %"),
    ("Mr. Smith of the U.S. etc. at 5 p.m. sharp", "mr. smith of the u.s. etc. at 5 p.m. sharp"),
    ("file.jpg and/or www.a.com a@b.com #tag", "file.jpg and/or www.a.com a@b.com #tag"),
    ("caf\u00e9 \U0001f600 \u4e2d\u6587 &amp; _a_", "caf\u00e9 \u4e2d\u6587 & _ a _"),
    ("a ||| b", "a | | | b"),
    ("**bold** x=y", "** bold ** x = y"),
    ("dogs' tails 'hello'", "dogs tails hello"),
    ("", ""),
    (" \t\r\n\0", ""),
    ("...!", ""),
]


@pytest.mark.parametrize(("text", "tokens"), TOKENS)
def test_known_tokens(text, tokens):
    assert tokenize([text]) == [tokens]


def test_the_ptb_tokenizer_agrees(java):
    texts = [text for text, _ in TOKENS]
    # Each between two short lines, so that no caption looks at the next one.
    padded = [line for text in texts for line in (text, "z")]
    assert ptb.tokenize(padded, java=java)[0][::2] == tokenize(texts)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("unit", ["1", "a", "+-", "a.", "1,", "_", "<a", "@", "-", "'", "(", "a-"])
def test_time_grows_with_the_length_only(unit):
    (tokens,) = tokenize([unit * 20_000 + " end"])
    assert tokens.endswith("end")
