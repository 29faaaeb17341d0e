"""What Hydra calls around a multirun of `imgdiff.synth` (named in conf/synth.yaml)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback

from imgdiff.core.errors import ImgdiffError
from imgdiff.core.files import write_json
from imgdiff.launch import explain, refuse, to_typed, with_own_folder
from imgdiff.synth.config import SynthConfig
from imgdiff.synth.pipeline import PROFILE
from imgdiff.synth.sweep.plan import check_images
from imgdiff.synth.sweep.prepare import prepare
from imgdiff.synth.sweep.summary import Row, summarise

if TYPE_CHECKING:
    from omegaconf import DictConfig

# Sweepers and launchers whose jobs are known beforehand and run on this machine. Others (a search,
# a cluster) compute row by row: what one has stored the next one finds.
KNOWN_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
NEAR_LAUNCHERS = ("basic_launcher", "joblib_launcher")


class SweepCallback(Callback):
    """Prepares the rows of a multirun at its start and writes one table at its end."""

    def __init__(self) -> None:
        self._rows: list[Row] = []

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check all rows, then compute what any of them lacks, once."""
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException

        # Hydra turns an error of a callback into a warning, and goes on.
        try:
            if config.hydra.sweeper._target_ != KNOWN_SWEEPER:
                return
            rows = list(_jobs(config))
            self._rows = [row for row, _ in rows]
            configs = [typed for _, typed in rows]
            if any(name in config.hydra.launcher._target_ for name in NEAR_LAUNCHERS):
                profile = prepare(configs)
                write_json(Path(config.hydra.sweep.dir) / PROFILE, profile)
            else:
                check_images(configs)
        except ImgdiffError as error:
            refuse("synth", error)
        except (HydraException, OmegaConfBaseException) as error:
            refuse("synth", explain(error))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """`sweep.json` and `sweep.md` in the sweep's folder, and one table."""
        try:
            summarise(Path(config.hydra.sweep.dir), self._rows)
        except ImgdiffError as error:
            refuse("synth", error)


def _jobs(config: DictConfig) -> Iterator[tuple[Row, SynthConfig]]:
    """Every job that Hydra is about to run, with its settings."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf, open_dict

    loader = GlobalHydra.instance().config_loader()
    sweeper = config.hydra.sweeper
    asked = [f"{key}={value}" for key, value in (sweeper.params or {}).items()]
    asked += config.hydra.overrides.task
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(asked)
    swept = {one.get_key_element() for one in parsed if one.is_sweep_override()}
    jobs = [job for part in BasicSweeper.split_arguments(parsed, None) for job in part]
    for number, overrides in enumerate(jobs):
        raw = loader.load_sweep_config(config, list(overrides))
        with open_dict(raw):
            raw.hydra.job.id = raw.hydra.job.num = number
            raw.hydra.runtime.output_dir = str(Path(raw.hydra.sweep.dir) / raw.hydra.sweep.subdir)
            HydraConfig.instance().set_config(raw)
            own = OmegaConf.masked_copy(raw, [str(key) for key in raw if key != "hydra"])
        typed = to_typed(with_own_folder(own), SynthConfig)
        chosen = tuple(one for one in overrides if one.partition("=")[0] in swept)
        yield Row(number=number, overrides=chosen, output=Path(typed.output_dir)), typed
