"""Finding checkpoints without a network, and saying all that is missing at once."""

import pytest

from imgdiff.backends.checkpoints import Needed, content_identity, find, require
from imgdiff.backends.configs import FastSamConfig
from imgdiff.core.errors import BackendError


def test_a_folder_is_found_and_a_hub_name_is_not(tmp_path):
    assert find(str(tmp_path)) == tmp_path
    assert find("nobody/no-such-model") is None
    assert find("mini:no-such-model") is None
    assert find("FastSAM-nowhere.pt") is None


def test_everything_missing_is_listed_with_the_remedy(tmp_path):
    here = Needed(key="embedder.model", model=str(tmp_path), size="1 GB")
    away = [
        Needed(key="matcher.model", model="some/blip", size="1.9 GB"),
        Needed(key="describer.model", model="some/llava", size="26.7 GB"),
    ]
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    require([here])
    with pytest.raises(BackendError) as caught:
        require([here, *away])
    text = str(caught.value)
    assert "2 checkpoint(s)" in text
    for item in away:
        assert f"{item.key}={item.model}  (about {item.size})" in text
    assert "hf download" in text
    assert str(tmp_path) not in text


def test_a_folder_without_weights_is_missing(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BackendError, match=r"matcher\.model=.*holds no weights \(\.safetensors"):
        require([Needed(key="matcher.model", model=str(tmp_path), size="1.9 GB")])


def test_a_file_that_is_not_on_the_hub_says_where_it_is():
    with pytest.raises(BackendError, match=r"FastSAM-nowhere\.pt.*releases of github"):
        require([FastSamConfig(model="FastSAM-nowhere.pt").needed()])


def test_a_missing_mini_checkpoint_is_not_looked_for_on_the_hub():
    with pytest.raises(BackendError, match=r"imgdiff\.mini\.build none"):
        require([Needed(key="embedder.model", model="mini:none", size="7 MB")])


def test_identity_follows_the_content(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, weights in ((one, b"a" * 100), (two, b"b" * 100)):
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(weights)
    first = content_identity(one)
    assert len(first) == 12
    assert content_identity(two) != first
    (two / "model.safetensors").write_bytes(b"a" * 100)
    (two / "README.md").write_text("a card changes nothing")
    (two / ".cache" / "huggingface").mkdir(parents=True)
    (two / ".cache" / "huggingface" / "model.metadata").write_text("nor do a downloader's notes")
    content_identity.cache_clear()
    assert content_identity(two) == first
