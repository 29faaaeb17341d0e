"""The settings of `python -m imgdiff.synth`. Light: no model library is imported here."""

from __future__ import annotations

import enum
import os
import string
from dataclasses import dataclass, field
from typing import Any

from imgdiff.backends.checkpoints import Needed, draws_weights
from imgdiff.backends.composite import CompositeConfig
from imgdiff.backends.configs import BlipConfig, ClipConfig, DescriberConfig, Dtype, FastSamConfig
from imgdiff.backends.executors import LocalConfig, RayConfig
from imgdiff.backends.inpainters import OpenCvInpaintConfig, SdxlInpaintConfig
from imgdiff.backends.lexicon import LexiconConfig
from imgdiff.backends.llm_editor import LlmEditorConfig, PromptProfile
from imgdiff.backends.random_checkpoints import check_random, use_random_weights
from imgdiff.backends.runtime import visible_gpus
from imgdiff.backends.sdxl_p2p_config import SdxlP2pConfig
from imgdiff.backends.token_alignment import PadMap
from imgdiff.backends.world import RenderConfig, Vocabulary
from imgdiff.backends.world_editor import WorldEditorConfig
from imgdiff.core.errors import ConfigError
from imgdiff.synth.downstream import DownstreamConfig
from imgdiff.synth.removal_config import Edit, RemovalCheck, RemovalConfig
from imgdiff.synth.selection import RegionsFrom, Rules
from imgdiff.synth.sources import CocoSource, JsonSource, WorldSource
from imgdiff.synth.wording import QUESTION, REGION_PROMPT, SENTENCE_PROMPT


class ImageFormat(str, enum.Enum):
    """`png` is lossless; `jpg` is JPEG at quality 95 without chroma subsampling."""

    png = "png"
    jpg = "jpg"


class DescribeBy(str, enum.Enum):
    """Who says what a box holds."""

    chat = "chat"  # the describer model
    truth = "truth"  # the generator's own record


class SentenceBy(str, enum.Enum):
    """Who writes the difference sentence."""

    chat = "chat"  # the describer model, shown both images with the red box
    template = "template"  # a fixed form filled with the two contents


class Checkpoints(str, enum.Enum):
    """Where the published checkpoints come from."""

    local = "local"  # from this machine
    random = "random"  # from their configurations, with random weights: a dry run


class StopAfter(str, enum.Enum):
    """The last stage to run; `export` is the whole job."""

    edit = "edit"
    generate = "generate"
    decide = "decide"  # what would be kept: the funnel and the audit, no sentence and no image file
    export = "export"


@dataclass(kw_only=True, slots=True)
class DescribeConfig:
    """Region contents and difference sentences. The prompts are the method's."""

    by: DescribeBy = DescribeBy.chat
    sentence_by: SentenceBy = SentenceBy.chat
    region_prompt: str = REGION_PROMPT
    sentence_prompt: str = SENTENCE_PROMPT
    region_tokens: int = 64  # at most, per description
    sentence_tokens: int = 128  # at most, per difference sentence

    def __post_init__(self) -> None:
        _check_prompt("describe.region_prompt", self.region_prompt, "box")
        _check_prompt("describe.sentence_prompt", self.sentence_prompt, "left", "right")
        for key in ("region_tokens", "sentence_tokens"):
            if getattr(self, key) < 1:
                raise ConfigError(f"describe.{key}={getattr(self, key)}: must be at least 1")


@dataclass(kw_only=True, slots=True)
class PublishedConfig:
    """What a profile or preset sets for options that this run may not choose.

    Read by editor=llm (`editor_*`), generator=sdxl_p2p (`pair_*`) and preset=paper.
    """

    editor_prompt: PromptProfile = PromptProfile.paper
    editor_checked: bool = True
    editor_tokens: int = 128
    matcher: str = "Salesforce/blip-itm-large-coco"
    pair_model: str = "mini:sdxl"
    pair_dtype: Dtype = Dtype.float32
    pair_batch: int = 4
    pair_pad_map: PadMap = PadMap.identity
    pair_vocabulary: Vocabulary = Vocabulary.mini_sdxl


@dataclass(kw_only=True, slots=True)
class ExportConfig:
    """What is written beside the LLaVA JSON and the concatenated images."""

    image_format: ImageFormat = ImageFormat.png
    separate_images: bool = False  # also `_0` and `_1`, the released layout
    parquet_images: bool = True  # embed the images, so that one file is the whole data set
    question: str = QUESTION
    gallery_accepted: int = 24  # pictures in gallery.html
    gallery_per_reason: int = 3  # rejected ones, for each reason


@dataclass(kw_only=True)
class SynthConfig:
    """One synthesis run. Three fields hold whichever class their config group chose (required)."""

    seed: int = 0
    edit: Edit = Edit.replace
    output_dir: str = "outputs/synth"
    store_dir: str = "outputs/store"  # scores and generated images, shared by all runs
    workers: int | None = None  # processes; None: one per GPU, else one per core, at most 4
    memory_limit: float | None = None  # share of a GPU that all workers take at most; None: all
    candidates: int = 1  # image pairs drawn for each caption pair; the best that passes is kept
    shard_size: int = 50  # items; the unit of work and of resumption
    overwrite: bool = False  # replace an output folder that holds another run
    stop_after: StopAfter = StopAfter.export
    allow_new_images: bool = False  # in a multirun: rows may need image pairs of their own
    checkpoints: Checkpoints = Checkpoints.local
    store_format: ImageFormat = ImageFormat.png
    executor: Any = "???"
    source: Any = "???"
    editor: Any = "???"
    generator: Any = "???"
    inpainter: Any = "???"
    embedder: ClipConfig = field(default_factory=ClipConfig)
    segmenter: FastSamConfig = field(default_factory=FastSamConfig)
    matcher: BlipConfig = field(default_factory=BlipConfig)
    describer: DescriberConfig = field(default_factory=DescriberConfig)
    published: PublishedConfig = field(default_factory=PublishedConfig)
    rules: Rules = field(default_factory=Rules)
    removal: RemovalConfig = field(default_factory=RemovalConfig)
    describe: DescribeConfig = field(default_factory=DescribeConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    downstream: DownstreamConfig = field(default_factory=DownstreamConfig)

    def __post_init__(self) -> None:
        self._check_machine()
        if self.shard_size < 1:
            raise ConfigError(f"shard_size={self.shard_size}: must be >= 1")
        if self.candidates < 1:
            raise ConfigError(f"candidates={self.candidates}: must be >= 1; 1 takes what is drawn")
        if self.downstream.asked and self.stop_after is not StopAfter.export:
            raise ConfigError(
                f"downstream.train with stop_after={self.stop_after.value}: there is no data set "
                "to train on; set stop_after=export"
            )
        _check_choice("executor", self.executor, (LocalConfig, RayConfig))
        _check_choice("source", self.source, (WorldSource, CocoSource, JsonSource))
        _check_choice("editor", self.editor, (WorldEditorConfig, LexiconConfig, LlmEditorConfig))
        generators = (RenderConfig, CompositeConfig, SdxlP2pConfig)
        _check_choice("generator", self.generator, generators)
        _check_choice("inpainter", self.inpainter, (OpenCvInpaintConfig, SdxlInpaintConfig))
        _check_prompt("removal.question", self.removal.question, "caption")
        if self.describer.temperature > 0:
            raise ConfigError(
                f"describer.temperature={self.describer.temperature}: descriptions are greedy, so "
                "that stored ones stay true; set it to 0"
            )
        self._check_source()
        if self.checkpoints is Checkpoints.random:
            use_random_weights(self._model_settings())
            check_random(self.needed())
        if self.downstream.asked and self.random_checkpoints():
            raise ConfigError(
                f"downstream.train={self.downstream.train!r} with random weights "
                f"({self.random_checkpoints()[0].key}): a model trained on noise would be measured "
                "as if it meant something; leave downstream out of a dry run"
            )
        if self.rules.regions_from is RegionsFrom.truth:
            self._check_truth()
        elif self.describe.by is DescribeBy.truth:
            raise ConfigError(
                "describe.by=truth needs rules.regions_from=truth: a segmented box has no record"
            )

    def _check_machine(self) -> None:
        """Whether what the run may take of a machine is something."""
        if self.workers is not None and self.workers < 1:
            raise ConfigError(
                f"workers={self.workers}: must be >= 1, or null for one per GPU or core"
            )
        if self.memory_limit is not None and not 0.0 < self.memory_limit <= 1.0:
            raise ConfigError(
                f"memory_limit={self.memory_limit}: must lie in (0, 1], the share of a GPU's "
                "memory that the run may take (20 GiB of 80: 0.25), or be null for all of it"
            )

    def _check_source(self) -> None:
        """Whether the source has what generator and editor start from."""
        if self.unit == "objects" and not isinstance(self.source, CocoSource):
            raise ConfigError(
                "generator=composite needs photos with instance masks; add source=coco "
                "source.root=FOLDER (COCO layout)"
            )
        restated = self.unit == "captions" and self.source.vocabulary is not Vocabulary.any
        if restated and not isinstance(self.editor, WorldEditorConfig):
            raise ConfigError(
                f"source.vocabulary={self.source.vocabulary.value}: captions are in the words of a "
                "small world, which this editor knows nothing of; add editor=world, or set "
                "source.vocabulary=any for a generator that draws everything"
            )

    def _check_truth(self) -> None:
        """Whether there is a record that regions can come from, and nothing that needs scores."""
        if self.candidates > 1:
            raise ConfigError(
                f"candidates={self.candidates}: they are chosen by image similarity, which "
                "rules.regions_from=truth does not ask for; use rules.regions_from=segmenter"
            )
        if isinstance(self.generator, SdxlP2pConfig):
            raise ConfigError(
                "rules.regions_from=truth: generator=sdxl_p2p keeps no record of what it drew; "
                "use rules.regions_from=segmenter"
            )
        if self.edit.removes and self.unit != "objects":
            raise ConfigError(
                f"edit={self.edit.value} with rules.regions_from=truth needs masks on record, "
                "which only generator=composite has; use it, or rules.regions_from=segmenter"
            )

    @property
    def unit(self) -> str:
        """What the generator starts from: `captions` or `objects` (annotated photo objects)."""
        return "objects" if isinstance(self.generator, CompositeConfig) else "captions"

    @property
    def processes(self) -> int:
        """How many worker processes to use: each holds a model of its own."""
        return self.workers or len(visible_gpus()) or min(4, os.cpu_count() or 1)

    @property
    def removes_annotated(self) -> bool:
        """Whether what is removed are annotated objects, with the masks of their annotations."""
        return self.edit.removes and self.rules.regions_from is RegionsFrom.truth

    def _model_settings(self) -> list[Any]:
        """The parts of the settings that name a checkpoint."""
        editor = self.editor.model if isinstance(self.editor, LlmEditorConfig) else self.editor
        parts = (
            editor, self.generator, self.inpainter, self.embedder, self.segmenter, self.matcher,
            self.describer,
        )  # fmt: skip
        return [part for part in parts if hasattr(part, "model")]

    def random_checkpoints(self) -> list[Needed]:
        """The checkpoints that this run draws weights for; what it writes is noise if any."""
        return [item for item in self.needed() if draws_weights(item.model)]

    def needed(self) -> list[Needed]:
        """Every checkpoint that this run may load."""
        wanted: list[Needed] = []
        if isinstance(self.editor, LlmEditorConfig) and self.unit == "captions":
            wanted.append(self.editor.needed())
        if isinstance(self.generator, SdxlP2pConfig) and self.stop_after is not StopAfter.edit:
            wanted.append(self.generator.needed())
        if self.stop_after in (StopAfter.edit, StopAfter.generate):
            return wanted
        learned = self.rules.regions_from is RegionsFrom.segmenter
        matched = self.edit.removes and self.removal.check is RemovalCheck.matcher
        if learned:
            wanted += [self.embedder.needed(), self.segmenter.needed()]
        if matched or (learned and self.edit.replaces):
            wanted.append(self.matcher.needed())
        told = self.edit.replaces and self.describe.sentence_by is SentenceBy.chat
        told &= self.stop_after is StopAfter.export
        if told or self.describe.by is DescribeBy.chat:
            wanted.append(self.describer.needed())
        if self.edit.removes and isinstance(self.inpainter, SdxlInpaintConfig):
            wanted.append(self.inpainter.needed())
        return wanted


def _check_prompt(key: str, prompt: str, *names: str) -> None:
    """Every name must stand in the prompt in braces, and nothing else."""
    try:
        found = {name for _, name, _, _ in string.Formatter().parse(prompt) if name is not None}
    except ValueError as error:
        raise ConfigError(f"{key}={prompt!r}: {error}; write {{{{ for a brace") from None
    if found != set(names):
        wanted = ", ".join(f"{{{name}}}" for name in names)
        raise ConfigError(f"{key}={prompt!r}: must hold {wanted} and no other field in braces")


def _check_choice(key: str, value: object, kinds: tuple[type, ...]) -> None:
    if not isinstance(value, kinds):
        names = ", ".join(kind.__name__ for kind in kinds)
        raise ConfigError(
            f"{key}={value!r}: not one of its config classes ({names}). Choose with {key}=NAME, "
            f"NAME being a file of conf/{key}/."
        )


# Settings that cannot change the data set: two runs that differ only here are the same run. What
# `published` and `checkpoints` change is seen in the settings of the models.
SPEED_ONLY = frozenset(
    {
        "workers", "memory_limit", "overwrite", "output_dir", "store_dir", "published",
        "checkpoints", "allow_new_images", "downstream", "executor",
    }
)  # fmt: skip

# Settings that change nothing where edit=replace, beside rules.removal.
REMOVAL_ONLY = frozenset({"edit", "inpainter", "removal"})


def register() -> None:
    """Put the schemas where `conf/` finds them (group `schema`)."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    store.store(group="schema", name="synth", node=SynthConfig, package="_global_")
    kinds = {
        "source": {"world": WorldSource, "coco": CocoSource, "json": JsonSource},
        "editor": {"world": WorldEditorConfig, "lexicon": LexiconConfig, "llm": LlmEditorConfig},
        "generator": {
            "render": RenderConfig,
            "composite": CompositeConfig,
            "sdxl_p2p": SdxlP2pConfig,
        },
        "executor": {"local": LocalConfig, "ray": RayConfig},
        "inpainter": {"opencv": OpenCvInpaintConfig, "sdxl": SdxlInpaintConfig},
    }
    for group, choices in kinds.items():
        for name, node in choices.items():
            store.store(group=f"schema/{group}", name=name, node=node, package=group)
