"""A model trained on a data set and evaluated, by the command that made the data."""

import json

import pytest

from imgdiff.core.errors import ConfigError, ImgdiffError
from imgdiff.launch import compose_typed
from imgdiff.synth.config import SynthConfig, register
from imgdiff.synth.downstream import DownstreamConfig, check_downstream
from imgdiff.synth.pipeline import run


def config(folder, **downstream):
    register()
    settings = [
        "source.limit=12", "source.split=test", "workers=1", "describe.sentence_by=template",
        f"output_dir={folder / 'out'}", f"store_dir={folder / 'store'}",
    ]  # fmt: skip
    made = compose_typed("synth", SynthConfig, settings)
    made.downstream = DownstreamConfig(**downstream)
    return made


def test_scores_of_the_trained_model_lie_beside_the_data(tmp_path, capfd) -> None:
    few = f"benchmark.pairs=4 cache_dir={tmp_path / 'cache'}"
    cache = f"cache_dir={tmp_path / 'cache'}"
    asked = {
        "train": f"tuning=projector max_steps=2 data.base=null data.synth_share=null {cache}",
        "eval": [f"benchmark=mmvp {few}", f"benchmark=mmvp {few}"],
    }
    run(config(tmp_path, **asked))
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    own = json.loads((tmp_path / "out" / "eval_0" / "scores.json").read_text())["scores"]
    assert scores["mmvp_procedural pair_accuracy"] == own["pair_accuracy"]
    assert "mmvp_procedural pair_accuracy (1)" in scores
    assert len(scores) == 2 * len(own)
    trained = json.loads((tmp_path / "out" / "train" / "run.json").read_text())
    assert str(tmp_path / "out") in json.dumps(trained)
    capfd.readouterr()
    run(config(tmp_path, **asked))  # nothing is done twice
    assert "already holds this run" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eval": ["benchmark=mmvp"]}, "asks the model that downstream.train makes"),
        ({"train": 'tuning="lora'}, "downstream.train='tuning=\"lora': No closing quotation"),
    ],
)
def test_what_makes_no_sense_is_refused(settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        DownstreamConfig(**settings)


def test_a_run_without_a_data_set_has_nothing_to_train_on() -> None:
    register()
    with pytest.raises(ConfigError, match="there is no data set to train on; set stop_after="):
        compose_typed("synth", SynthConfig, ["stop_after=decide", 'downstream.train=""'])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": "tunning=lora"}, "downstream.train='tunning=lora': .*Did you mean tuning"),
        ({"train": "", "eval": ["benchmark=x"]}, "downstream.eval='benchmark=x': .*mmvp"),
    ],
)
def test_settings_that_do_not_compose_are_refused_before_any_work(settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        check_downstream(DownstreamConfig(**settings))


def test_a_command_that_fails_leaves_the_data_set(tmp_path) -> None:
    failing = config(tmp_path, train="data.base=nowhere.json max_steps=1")
    with pytest.raises(ImgdiffError, match=r"downstream\.train: .*exit code 2.*data set is whole"):
        run(failing)
    assert (tmp_path / "out" / "dataset" / "img_diff.json").exists()
