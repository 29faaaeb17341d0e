"""One METEOR for all caption tests: its start takes seconds."""

from __future__ import annotations

import pytest

from imgdiff.eval.captions.java import find_java
from imgdiff.eval.captions.meteor import Meteor
from imgdiff.eval.captions.scoring import CaptionTools

NO_JAVA = "no Java on this machine: install one, or `pip install imgdiff[java]`"


@pytest.fixture(scope="session")
def java():
    found = find_java()
    if found is None:
        pytest.skip(NO_JAVA)
    return found


@pytest.fixture(scope="session")
def tools(java):
    with Meteor(java) as meteor:
        yield CaptionTools(java=java, meteor=meteor)


@pytest.fixture(scope="session")
def meteor(tools):
    return tools.meteor
