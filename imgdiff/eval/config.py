"""Settings of `python -m imgdiff.eval`. Light: imports no deep learning."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Optional

from imgdiff.backends.checkpoints import find, refuse_random
from imgdiff.backends.configs import ChatTemplate, Dtype, VlmConfig
from imgdiff.backends.runtime import visible_gpus
from imgdiff.core.errors import ConfigError
from imgdiff.eval.judge import JudgeConfig, JudgeStyle
from imgdiff.eval.mmvp import PromptStyle
from imgdiff.eval.spot_the_diff import SpotProtocol

# Settings whose values are paths or words: the command line takes them as they are.
TEXTS = (
    *("output_dir", "cache_dir", "predictions", "label", "model.path", "judge.model"),
    *("benchmark.root", "benchmark.annotations", "benchmark.images", "benchmark.prompt"),
)
LETTER_TOKENS = 16
FREE_TOKENS = 128
CAPTION_TOKENS = 64
SPOT_PROMPT = (
    "Analyse the left image and the right image (separated by the black vertical bar). "
    "What is the difference between the two images? Answer with one short sentence."
)
EDIT_PROMPT = (
    "Analyse the left image and the right image (separated by the black vertical bar). "
    "Which edit turns the left image into the right image? Answer with one short instruction."
)


@dataclass(kw_only=True, slots=True)
class AskedConfig(VlmConfig):
    """The model behind `ModelConfig`, as the backends know it."""

    MODEL_KEY: ClassVar[str] = "model.path"


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    """The model that is asked. Decoding is greedy."""

    path: str = "outputs/train/checkpoint"  # or `mini:NAME`, or a name in the hub's local cache
    template: ChatTemplate = ChatTemplate.vicuna_v1  # llava_v1 is what MMVP's own script uses
    max_new_tokens: Optional[int] = None  # noqa: UP045  null: what the benchmark needs
    batch_size: int = 32  # no answer depends on it
    dtype: Dtype = Dtype.float32  # on a GPU; a CPU computes in float32

    def __post_init__(self) -> None:
        for key in ("max_new_tokens", "batch_size"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise ConfigError(f"model.{key}={value}: must be at least 1")

    def asked(self) -> AskedConfig:
        """The backend's settings; ConfigError where there is no such checkpoint."""
        refuse_random("model.path", self.path)
        if find(self.path) is None:
            raise ConfigError(
                f"model.path={self.path}: no checkpoint there. Run `python -m imgdiff.train` first "
                "(it writes outputs/train/checkpoint), or give a folder, mini:llava, or a name "
                "that is in the hub's local cache."
            )
        return AskedConfig(
            model=self.path,
            template=self.template,
            batch_size=self.batch_size,
            dtype=self.dtype,
        )


@dataclass(kw_only=True, slots=True)
class BenchmarkConfig:
    """What all benchmarks share. Without files, a procedural set of the mini preset is drawn."""

    root: Optional[str] = None  # noqa: UP045  a copy of the published folder
    annotations: Optional[str] = None  # noqa: UP045  or the file of questions or sentences alone
    images: Optional[str] = None  # noqa: UP045  or the folder of the images
    pairs: int = 150  # of the procedural set
    seed: int = 0  # of the procedural set

    NAME: ClassVar[str] = ""
    PUBLISHED_SIZE: ClassVar[int] = 0  # items of the published test split

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise ConfigError(f"benchmark.pairs={self.pairs}: must be at least 1")

    @property
    def is_drawn(self) -> bool:
        """Whether the procedural set is asked for."""
        return self.root is None and self.annotations is None


@dataclass(kw_only=True, slots=True)
class MmvpConfig(BenchmarkConfig):
    """MMVP: 150 pairs of questions, each about one image."""

    prompt: PromptStyle = PromptStyle.letter
    cocot: bool = False  # first ask for similarities and differences of the pair (Img-Diff, s. 12)

    NAME: ClassVar[str] = "mmvp"
    PUBLISHED_SIZE: ClassVar[int] = 300

    @property
    def tokens(self) -> int:
        """The longest answer that the prompt calls for."""
        return LETTER_TOKENS if self.prompt is PromptStyle.letter else FREE_TOKENS

    @property
    def protocol(self) -> str:
        """Its short name in scores.json."""
        return self.prompt.value + ("_cocot" if self.cocot else "")


@dataclass(kw_only=True, slots=True)
class CaptionConfig(BenchmarkConfig):
    """A captioning benchmark."""

    prompt: str = SPOT_PROMPT
    resamples: int = 2000  # of the bootstrap

    def __post_init__(self) -> None:
        super(CaptionConfig, self).__post_init__()
        if not self.prompt.strip():
            raise ConfigError("benchmark.prompt is empty: give the words that ask for a caption")
        if self.resamples < 2:  # noqa: PLR2004
            raise ConfigError(
                f"benchmark.resamples={self.resamples}: must be at least 2; 2000 is usual"
            )

    @property
    def tokens(self) -> int:
        """The longest caption."""
        return CAPTION_TOKENS


class SpotSplit(str, enum.Enum):
    """As the annotation files are called."""

    test = "test"
    val = "val"
    train = "train"


class EditSplit(str, enum.Enum):
    """As the annotation files are called."""

    test = "test"
    valid = "valid"
    train = "train"


@dataclass(kw_only=True, slots=True)
class SpotConfig(CaptionConfig):
    """Spot-the-Diff: 1,270 pairs of surveillance images in the test split."""

    split: SpotSplit = SpotSplit.test
    protocol: SpotProtocol = SpotProtocol.merged

    NAME: ClassVar[str] = "spot_the_diff"
    PUBLISHED_SIZE: ClassVar[int] = 1270


@dataclass(kw_only=True, slots=True)
class EditConfig(CaptionConfig):
    """Image-Edit-Request: 495 edits in the test split, three references each."""

    split: EditSplit = EditSplit.test
    prompt: str = EDIT_PROMPT

    NAME: ClassVar[str] = "image_edit_request"
    PUBLISHED_SIZE: ClassVar[int] = 495


@dataclass(kw_only=True, slots=True)
class ReportConfig:
    """What report.html holds."""

    image_px: int = 320  # longest side of the pictures in it; 0 leaves them out

    def __post_init__(self) -> None:
        if self.image_px < 0:
            raise ConfigError(f"report.image_px={self.image_px}: must be 0 (no pictures) or more")


@dataclass(kw_only=True)
class EvalConfig:
    """One model, or one file of predictions, on one benchmark."""

    benchmark: Any = "???"  # whichever class the config group chose (required)
    output_dir: str = "outputs/eval"
    overwrite: bool = False  # replace the evaluation of another model or benchmark in output_dir
    cache_dir: str = "outputs/cache"  # answers of every model, and the procedural sets
    seed: int = 0  # of the bootstrap
    processes: Optional[int] = None  # noqa: UP045  that ask; null: one per GPU, one without
    predictions: Optional[str] = None  # noqa: UP045  a file: score it, ask no model
    partial: bool = False  # score a predictions file that lacks some items
    label: Optional[str] = None  # noqa: UP045  its name in tables; null: the path
    model: ModelConfig = field(default_factory=ModelConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    report: ReportConfig = field(default_factory=ReportConfig)

    def __post_init__(self) -> None:
        if not isinstance(self.benchmark, BenchmarkConfig):
            raise ConfigError(
                f"benchmark={self.benchmark}: must be one of mmvp, spot_the_diff, "
                "image_edit_request. Add benchmark=mmvp to the command."
            )
        if self.judge.style is not JudgeStyle.none and not isinstance(self.benchmark, MmvpConfig):
            raise ConfigError(
                f"judge.style={self.judge.style.value}: a judge reads answers to MMVP; captions "
                "are scored by the four metrics. Set judge.style=none."
            )
        if self.seed < 0:
            raise ConfigError(f"seed={self.seed}: must be 0 or more")
        if self.processes is not None and self.processes < 1:
            raise ConfigError(
                f"processes={self.processes}: must be at least 1, or null for one per GPU"
            )

    @property
    def asking_processes(self) -> int:
        """How many processes ask the model."""
        return self.processes or max(1, len(visible_gpus()))

    @property
    def max_new_tokens(self) -> int:
        """The longest answer: what the user says, or what the benchmark calls for."""
        return int(self.model.max_new_tokens or self.benchmark.tokens)

    @property
    def shown_label(self) -> str:
        """What tables call this evaluation."""
        if self.label:
            return self.label
        return self.model.path if self.predictions is None else Path(self.predictions).name


def register() -> None:
    """Make the schemas known to Hydra, in the group `schema` that no menu shows."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    store.store(group="schema", name="eval", node=EvalConfig, package="_global_")
    for name, node in {
        "mmvp": MmvpConfig,
        "spot_the_diff": SpotConfig,
        "image_edit_request": EditConfig,
    }.items():
        store.store(group="schema/benchmark", name=name, node=node, package="benchmark")
