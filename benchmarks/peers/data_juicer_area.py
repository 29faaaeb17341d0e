"""Data-Juicer's area operator as one side of `benchmarks/area.py`, in an environment of its own.

    python3.11 -m venv PEER
    PEER/bin/pip install --no-deps py-data-juicer==1.6.1 transformers==4.57.6 datasets==4.4.2 \
        "diffusers<0.36" "huggingface-hub<1" "tokenizers<0.23"
    PEER/bin/pip install torch torchvision ultralytics opencv-python pandas pyarrow dill \
        multiprocess fsspec aiohttp ray msgpack pydantic loguru jsonargparse tomli zstandard wget \
        emoji beautifulsoup4 safetensors regex requests tqdm xxhash httpx psutil tabulate lz4 \
        jsonlines

The operator runs as it is, one pair after the other (`process_single`, the call that
`dataset.map` makes), with these replaced:

* the nouns are given, the same as imgdiff's: its own step needs NLTK's data, a download;
* where a question asks for `given` boxes, they stand in the sample that its segmenter gets, which
  then adds none;
* where a question asks for `lossless`, its crops are written as PNG. Its JPEG is a stated
  difference, and this shows what is left without it.

Scores and boxes are noted where the operator asks its fused operators; a list grows, no more. Given
a job (JSON, see `area_job.py`) it answers the questions of `lines.py`.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from lines import answers, own_stdout

CROP = re.compile(r"_([12])_<(\d+)>\.jpg$")
SIDES = 2
META, BOXES, STATS = "__dj__meta__", "__dj__bbox__", "__dj__stats__"  # its names of its columns


class Noted:
    """What the fused operators were asked and said of the pair under way."""

    def __init__(self) -> None:
        self.start()

    def start(self, given: list[np.ndarray] | None = None) -> None:
        """A pair begins, with its boxes where they are given."""
        self.given = given
        self.boxes: list[np.ndarray] = []  # of each image, rows of centre, width, height
        self.image_similarity: float | None = None
        self.crops: dict[int, float] = {}
        self.matches: dict[tuple[int, int], float] = {}  # the best noun's, by box and side
        self.seconds = dict.fromkeys(("segment", "compare", "match"), 0.0)

    def given_boxes(self, sample: dict[str, Any]) -> None:
        """A mapper that finds boxes in its sample adds none; that is its own rule."""
        if self.given is not None:
            sample[META] = {BOXES: self.given}

    def segmented(self, sample: dict[str, Any], seconds: float) -> None:
        """Boxes were found."""
        self.boxes = list(sample[META][BOXES])
        self.seconds["segment"] = seconds

    def compared(self, sample: dict[str, Any], seconds: float) -> None:
        """Two images or two crops were compared."""
        self.seconds["compare"] += seconds
        (score,) = sample[STATS]["image_pair_similarity"]
        score = float(score.detach())
        crop = CROP.search(sample["images"][0])
        if crop is None:
            self.image_similarity = score
        else:
            self.crops[int(crop[2])] = score

    def matched(self, sample: dict[str, Any], seconds: float) -> None:
        """A crop was matched with a noun."""
        self.seconds["match"] += seconds
        (score,) = sample[STATS]["image_text_matching_score"]
        crop = CROP.search(sample["images"][0])
        assert crop is not None
        place = (int(crop[2]), int(crop[1]) - 1)
        self.matches[place] = max(self.matches.get(place, -1.0), float(score))


class LosslessCrops:
    """OpenCV for the operator, with images written as PNG whatever their name says."""

    def __init__(self, cv2: Any) -> None:
        self._cv2 = cv2
        self.lossless = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cv2, name)

    def imwrite(self, path: str, image: np.ndarray) -> bool:
        """As `cv2.imwrite`."""
        if not self.lossless:
            return bool(self._cv2.imwrite(path, image))
        done, encoded = self._cv2.imencode(".png", image)
        Path(path).write_bytes(encoded.tobytes())
        return bool(done)


def watch(noted: Noted) -> None:
    """Note what the fused operators say. They bind their methods when they are made: call it first.

    The two filters run inside `Dataset.map`, one crop at a time.
    """
    from data_juicer.ops.filter.image_pair_similarity_filter import ImagePairSimilarityFilter
    from data_juicer.ops.filter.image_text_matching_filter import ImageTextMatchingFilter
    from data_juicer.ops.mapper.image_segment_mapper import ImageSegmentMapper

    def around(
        kind: Any, name: str, note: Callable[[dict[str, Any], float], None],
        prepare: Callable[[dict[str, Any]], None] = lambda sample: None,
    ) -> None:  # fmt: skip
        plain = getattr(kind, name)

        def watched(fused: Any, sample: Any, *args: Any, **options: Any) -> Any:
            prepare(sample)
            clock = time.perf_counter()
            found = plain(fused, sample, *args, **options)
            note(found, time.perf_counter() - clock)
            return found

        setattr(kind, name, watched)

    around(ImagePairSimilarityFilter, "compute_stats_single", noted.compared)
    around(ImageSegmentMapper, "process_single", noted.segmented, noted.given_boxes)
    around(ImageTextMatchingFilter, "compute_stats_single", noted.matched)


class Peer:
    """The operator, loaded."""

    def __init__(self, job: dict[str, Any]) -> None:
        clock = time.perf_counter()
        import cv2
        from data_juicer.ops.mapper import imgdiff_difference_area_generator_mapper as area
        from data_juicer.utils.model_utils import get_model
        from datasets import disable_progress_bars

        disable_progress_bars()
        self.import_seconds = time.perf_counter() - clock
        self._job = job
        self._noted = Noted()
        watch(self._noted)
        self._cv2 = LosslessCrops(cv2)
        area.cv2 = self._cv2
        given = {tuple(pair["captions"]): pair["nouns"] for pair in job["pairs"]}
        area.compare_text_index = lambda left, right: given[left, right]
        clock = time.perf_counter()
        self._operator = area.Difference_Area_Generator_Mapper(*_arguments(job))
        for fused in self._operator.fused_ops:
            get_model(fused.model_key, None, fused.use_cuda())
        self.loading_seconds = time.perf_counter() - clock

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """One round over some pairs under some thresholds."""
        self._decide_by(question["rules"])
        self._cv2.lossless = question["lossless"]
        clock, cpu = time.perf_counter(), time.process_time()
        done = {
            str(number): self._pair(number, given=question["given"]) for number in question["pairs"]
        }
        seconds, cpu = time.perf_counter() - clock, time.process_time() - cpu
        stages = {
            name: sum(parts[name] for _, parts in done.values()) for name in self._noted.seconds
        }
        stages["all else"] = seconds - sum(stages.values())
        pairs = {number: found for number, (found, _) in done.items()}
        return {"seconds": seconds, "cpu_seconds": cpu, "stages": stages, "pairs": pairs}

    def _decide_by(self, rules: dict[str, list[float]]) -> None:
        """Closed intervals, as the operator has them."""
        compare = self._operator.image_pair_similarity_filter_args
        match = self._operator.fused_ops[2]
        compare["min_score_1"], compare["max_score_1"] = rules["image_similarity"]
        compare["min_score_2"], compare["max_score_2"] = rules["crop_similarity"]
        match.min_score, match.max_score = rules["match"]

    def _pair(self, number: int, *, given: bool) -> tuple[dict[str, Any], dict[str, float]]:
        """What became of a pair, and what its steps took."""
        pair, noted = self._job["pairs"][number], self._noted
        noted.start([_centred(rows) for rows in pair["boxes"]] if given else None)
        sample = dict(zip(("image_path1", "image_path2"), pair["images"], strict=True))
        sample |= dict(zip(("caption1", "caption2"), pair["captions"], strict=True))
        kept_M4 = self._operator.process_single(sample)[META][BOXES]
        return _outcome(noted, kept_M4), noted.seconds


def _arguments(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Of the operators that compare, segment and match; thresholds come with the questions."""
    models, boxes = job["models"], job["segmenter"]
    segment = {
        "model_path": models["fastsam"], "imgsz": boxes["image_size"],
        "conf": boxes["confidence"], "iou": boxes["box_iou"],
    }  # fmt: skip
    return [{"hf_clip": models["clip"]}, segment, {"hf_blip": models["blip"]}]


def _centred(rows: list[list[float]]) -> np.ndarray:
    """Boxes as centre, width and height, in the segmenter's number type."""
    corners_N4 = np.array(rows, dtype=np.float32).reshape(-1, 4)
    first_N2, last_N2 = corners_N4[:, :2], corners_N4[:, 2:]
    return np.hstack([(first_N2 + last_N2) / 2, last_N2 - first_N2])


def _outcome(noted: Noted, kept_M4: np.ndarray) -> dict[str, Any]:
    """As `area_stages.py` tells it; a row of zeros is the operator's way to say "none"."""
    rows_B4 = np.concatenate([*noted.boxes, np.zeros((0, 4), np.float32)])
    places = [int(np.flatnonzero((rows_B4 == row).all(axis=1))[0]) for row in kept_M4 if row.any()]
    halves_B2 = rows_B4[:, 2:] / 2
    corners_B4 = np.hstack([rows_B4[:, :2] - halves_B2, rows_B4[:, :2] + halves_B2])
    count = len(rows_B4)
    return {
        "image_similarity": noted.image_similarity,
        "boxes": corners_B4.tolist(),
        "from_left": len(noted.boxes[0]) if noted.boxes else 0,
        "crop_similarity": [noted.crops.get(n) for n in range(count)],
        "match": [[noted.matches.get((n, side)) for side in range(SIDES)] for n in range(count)],
        "kept": places,
    }


def main() -> None:
    """Load the operator of a job and answer."""
    to = own_stdout()
    peer = Peer(json.loads(Path(sys.argv[1]).read_text("utf-8")))
    import data_juicer
    import torch
    import transformers

    ready = {
        "versions": {
            "data_juicer": data_juicer.__version__, "transformers": transformers.__version__,
            "torch": torch.__version__,
        },
        "threads": torch.get_num_threads(),
        "import_seconds": peer.import_seconds,
        "loading_seconds": peer.loading_seconds,
    }  # fmt: skip
    answers(to, ready, peer.answer)


if __name__ == "__main__":
    main()
