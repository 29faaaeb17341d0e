"""imgdiff's stages as one side of `area.py`: answers the questions of `peers/lines.py`.

The stages are those of `python -m imgdiff.synth` from the image similarity to the selection, over
one shard with an empty store. All models stay loaded: in a run each is loaded once for a wave of
a thousand pairs.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from peers.lines import answers, own_stdout
from PIL import Image

from imgdiff.core.geometry import Box, box_from
from imgdiff.core.identity import image_id
from imgdiff.core.images import open_rgb
from imgdiff.core.records import CaptionPair, ImagePair
from imgdiff.core.store import Store
from imgdiff.launch import compose_typed
from imgdiff.synth.config import SynthConfig, register
from imgdiff.synth.selection import Interval, Rules
from imgdiff.synth.stages import STAGES
from imgdiff.synth.states import CandidateState, ItemState
from imgdiff.synth.tools import Backends, Tools

AREA = ("image_similarity", "segment", "crop_similarity", "match")
INTERVALS = ("image_similarity", "crop_similarity", "match")
ROLES = ("embedder", "segmenter", "matcher")
NETWORKS = ("vision_model", "text_model", "text_encoder", "_network")  # CLIP, BLIP, and FastSAM


class GivenBoxes:
    """A segmenter that says what it was told of an image."""

    def __init__(self, boxes: dict[str, list[Box]]) -> None:
        self._boxes = boxes

    def segment(self, images: Sequence[Image.Image]) -> list[list[Box]]:
        """As `Segments.segment`."""
        return [self._boxes[image_id(image)] for image in images]


class ModelClock:
    """Seconds inside the networks: their layers alone, neither pixels before nor scores after."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._begun = 0.0

    def watch(self, handle: Any) -> None:
        """Count the passes of the networks behind an entered handle, from now on."""
        opened = handle._model()
        model = getattr(opened, "_model", opened)
        networks = [getattr(model, name) for name in NETWORKS if hasattr(model, name)]
        assert networks, f"no network in {type(opened).__name__}"
        for network in networks:
            network.register_forward_pre_hook(self._begin)
            network.register_forward_hook(self._end)

    def _begin(self, *_: Any) -> None:
        self._begun = time.perf_counter()

    def _end(self, *_: Any) -> None:
        self.seconds += time.perf_counter() - self._begun


class Resident(Backends):
    """Backends that stay loaded."""

    def __init__(self, config: SynthConfig) -> None:
        super().__init__(config)
        self._entered: dict[str, Any] = {}
        self.instead: dict[str, Any] = {}  # by role
        self.clock = ModelClock()

    def _enter(self, role: str) -> Any:
        if role in self.instead:
            return self.instead[role]
        if role not in self._entered:
            super()._enter(role)  # which lets go of the one before it
            assert self._resident is not None
            self._entered[role] = self._resident[1]
            self.clock.watch(self._resident[1])
            self._stack.pop_all()
        return self._entered[role]


def settings(job: dict[str, Any]) -> SynthConfig:
    """The recipe's profile with the job's checkpoints and segmenter."""
    register()
    config = compose_typed("synth", SynthConfig, ["profile=dj_recipe", "preset=mini"])
    models, batch = job["models"], job["batch_size"]
    return replace(
        config,
        embedder=replace(config.embedder, model=models["clip"], batch_size=batch),
        matcher=replace(config.matcher, model=models["blip"], batch_size=batch),
        segmenter=replace(config.segmenter, model=models["fastsam"], **job["segmenter"]),
    )


def under(rules: Rules, intervals: dict[str, list[float]]) -> Rules:
    """The rules with these closed intervals.

    The limit to a box's area goes: it is of the recipe's caption operator, not of the area one.
    """
    closed = {
        name: Interval(at_least=intervals[name][0], at_most=intervals[name][1])
        for name in INTERVALS
    }
    return replace(rules, max_area=1.0, **closed)


class Ours:
    """The stages with their models loaded."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._root = Path(job["root"])
        self._pairs = [_images(pair, self._root) for pair in job["pairs"]]
        self._config = settings(job)
        self._given = GivenBoxes(
            {
                name: [box_from(row) for row in rows]
                for pair, images in zip(job["pairs"], self._pairs, strict=True)
                for name, rows in zip((images.left_id, images.right_id), pair["boxes"], strict=True)
            }
        )
        clock = time.perf_counter()
        self._backends = Resident(self._config)
        for role in ROLES:
            self._backends._enter(role)
        self.loading_seconds = time.perf_counter() - clock
        self._scratch = ExitStack()
        self._store = self._empty_store()

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """One round over some pairs under some thresholds.

        Nothing is stored yet, but where it is done `again`: then all that earlier rounds stored.
        """
        if not question["again"]:
            self._store = self._empty_store()
        config = replace(self._config, rules=under(self._config.rules, question["rules"]))
        self._backends.instead = {"segmenter": self._given} if question["given"] else {}
        stages: dict[str, float] = {}
        models = self._backends.clock.seconds
        clock, cpu = time.perf_counter(), time.process_time()
        states = [_state(self._pairs[number]) for number in question["pairs"]]
        tools = Tools(config, self._store, self._backends, 0)
        for name in AREA:
            begun = time.perf_counter()
            STAGES[name](states, tools)
            stages[name] = time.perf_counter() - begun
        seconds, cpu = time.perf_counter() - clock, time.process_time() - cpu
        models = self._backends.clock.seconds - models
        pairs = {
            str(number): _outcome(state)
            for number, state in zip(question["pairs"], states, strict=True)
        }
        return {
            "seconds": seconds, "cpu_seconds": cpu, "model_seconds": models, "stages": stages,
            "pairs": pairs,
        }  # fmt: skip

    def _empty_store(self) -> Store:
        self._scratch.close()
        store = Store(Path(self._scratch.enter_context(tempfile.TemporaryDirectory())), "area")
        (store.root / "images").symlink_to(self._root / "images")
        return store


def _images(pair: dict[str, Any], root: Path) -> ImagePair:
    """A pair of the job as the pair stages leave it in the store."""
    left, right = (Path(path) for path in pair["images"])
    return ImagePair(
        id=pair["id"], left_caption=pair["captions"][0], right_caption=pair["captions"][1],
        left_path=left.relative_to(root).as_posix(), right_path=right.relative_to(root).as_posix(),
        left_id=image_id(open_rgb(left)), right_id=image_id(open_rgb(right)),
        width=pair["size"][0], height=pair["size"][1], seed=0,
    )  # fmt: skip


def _state(images: ImagePair) -> ItemState:
    captions = CaptionPair(
        id=images.id, left=images.left_caption, right=images.right_caption, seed=images.seed
    )
    return ItemState(
        id=images.id, caption=None, pair=captions, images=images,
        candidates=[CandidateState(images=images)],
    )  # fmt: skip


def _outcome(state: ItemState) -> dict[str, Any]:
    """Boxes with their scores (None: not asked for), and which of them stand."""
    regions = state.regions
    return {
        "image_similarity": state.image_similarity,
        "boxes": [list(region.region.box.as_tuple()) for region in regions],
        "from_left": state.proposals.n_left if state.proposals is not None else 0,
        "crop_similarity": [region.crop_similarity for region in regions],
        "match": [list(region.match or (None, None)) for region in regions],
        "kept": [n for n, region in enumerate(regions) if region.rejected is None],
    }


def main() -> None:
    """Load the models of a job and answer."""
    to = own_stdout()
    clock = time.perf_counter()
    import torch
    import transformers

    import imgdiff

    imports = time.perf_counter() - clock
    ours = Ours(json.loads(Path(sys.argv[1]).read_text("utf-8")))
    ready = {
        "versions": {
            "imgdiff": imgdiff.__version__, "transformers": transformers.__version__,
            "torch": torch.__version__,
        },
        "threads": torch.get_num_threads(),
        "import_seconds": imports,
        "loading_seconds": ours.loading_seconds,
    }  # fmt: skip
    answers(to, ready, ours.answer)


if __name__ == "__main__":
    main()
