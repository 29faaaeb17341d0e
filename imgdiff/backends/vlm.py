"""Answers of LLaVA-1.5, LLaVA-NeXT, InternVL2 and Llama checkpoints, through transformers.

Prompts come from the family, never from a checkpoint's own chat template. All questions about an
image share its part of the prompt: the image is encoded, and the decoder runs over it, once per
batch. Rows of a batch are equally long and batches have one fixed size, so there is no padding and
an answer does not depend on what it is asked together with.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from imgdiff.backends.batching import BatchSize, batch_size, in_batches, in_prepared_batches
from imgdiff.backends.chat_templates import TEMPLATES, Exchange
from imgdiff.backends.checkpoints import locate
from imgdiff.backends.configs import VlmConfig
from imgdiff.backends.decoding import (
    Sampling,
    decode,
    joined,
    recalled,
    remembered,
    rows_of,
)
from imgdiff.backends.loading import clean, device, effective_dtype, loading
from imgdiff.backends.vlm_families import Family, Views, family_of
from imgdiff.core.errors import ConfigError, DataError
from imgdiff.core.identity import image_id
from imgdiff.core.images import to_rgb


@dataclass(frozen=True, kw_only=True)
class _Picture:
    """An RGB image, its content id, what it can be batched with, and how many tokens it takes."""

    image: Image.Image
    key: str
    shape: Hashable
    tokens: int


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """One question as tokens. The first `shared` ids end with its image (0 without one)."""

    index: int
    ids: tuple[int, ...]
    shared: int
    picture: _Picture | None
    seed: int

    @property
    def opening(self) -> tuple[int, ...]:
        """The ids before its image."""
        return self.ids[: self.shared - self.picture.tokens] if self.picture else ()

    @property
    def group(self) -> tuple[Hashable, int, tuple[int, ...]]:
        """Questions of one group can share a batch."""
        return (self.picture.shape if self.picture else None, len(self.ids), self.opening)


class VlmChat:
    """Greedy (or seeded) answers; it `Chats`. The family follows config.json's `model_type`.

    What changes an answer here raises `VlmConfig.VERSION`.
    """

    def __init__(self, config: VlmConfig) -> None:
        """Load the weights; BackendError where they are not on this machine."""
        self._config = config
        self._template = TEMPLATES[config.template.value]
        key = config.MODEL_KEY.rpartition(".")[0]
        self._batch_size = batch_size(f"{key}.batch_size", config.batch_size, config.USUAL_BATCH)
        self._image_batch_size = BatchSize(f"{key}.image_batch_size", config.image_batch_size)
        folder = locate(config.MODEL_KEY, config.model)
        family = family_of(config.MODEL_KEY, config.model, folder)
        with loading(config.MODEL_KEY, config.model):
            self.family = family(folder, effective_dtype(config.dtype))

    def chat(
        self,
        images: Sequence[Image.Image | None],
        questions: Sequence[str],
        seeds: Sequence[int] | None = None,
        max_new_tokens: int | None = None,
    ) -> list[str]:
        """One answer per (image, question), stripped; None asks without an image.

        A question need not say `<image>`: the image goes first. Sampling (temperature > 0) needs
        one seed per question; the answer then depends on that seed and not on the batch.
        """
        if len(images) != len(questions) or (seeds is not None and len(seeds) != len(questions)):
            raise DataError("chat needs one image (or None), question and seed for each answer")
        if seeds is None and self._config.temperature > 0:
            raise ConfigError(
                f"{self._config.MODEL_KEY}: temperature={self._config.temperature} needs a seed "
                "per question; pass seeds or set it to 0"
            )
        answers = [""] * len(questions)
        limit = max_new_tokens or self._config.max_new_tokens
        with torch.inference_mode():
            asked = self._asked(images, questions, seeds or [0] * len(questions))
            for group in _grouped(asked):
                for index, answer in self._answer_group(group, limit):
                    answers[index] = answer
        return answers

    def reply(
        self,
        image: Image.Image | None,
        turns: Sequence[Exchange],
        max_new_tokens: int | None = None,
    ) -> str:
        """The answer to the last of `turns`, the earlier ones being answered.

        The image stands where a question says `<image>`, else before the first one.
        """
        limit = max_new_tokens or self._config.max_new_tokens
        with torch.inference_mode():
            picture = _Pictures(self.family).get(image)
            asked = self._one_asked(0, picture, turns, seed=0)
            return next(answer for _, answer in self._answer_group([asked], limit))

    def _asked(
        self,
        images: Sequence[Image.Image | None],
        questions: Sequence[str],
        seeds: Sequence[int],
    ) -> list[_Asked]:
        pictures = _Pictures(self.family)
        items = zip(images, questions, seeds, strict=True)
        return [
            self._one_asked(index, pictures.get(image), [Exchange(question)], seed)
            for index, (image, question, seed) in enumerate(items)
        ]

    def _one_asked(
        self, index: int, picture: _Picture | None, turns: Sequence[Exchange], seed: int
    ) -> _Asked:
        family = self.family
        cleaned = [Exchange(clean(turn.question), turn.answer) for turn in turns]
        counts = [] if picture is None else [picture.tokens]
        ids = family.prompt(cleaned, counts, self._template)
        shared = 0 if picture is None else ids.index(family.image_id) + picture.tokens
        return _Asked(index=index, ids=tuple(ids), shared=shared, picture=picture, seed=seed)

    def _answer_group(self, group: Sequence[_Asked], limit: int) -> Iterator[tuple[int, str]]:
        """(index, answer) of questions of one group."""
        family, config = self.family, self._config
        sampling = Sampling(temperature=config.temperature, top_p=config.top_p)

        def answers(batch: list[_Asked]) -> list[list[int]]:
            cache = self._cache_of(batch)
            suffixes = torch.tensor([item.ids[item.shared :] for item in batch], device=device())
            seeds = [item.seed for item in batch]
            return decode(family, suffixes, cache, limit, sampling, seeds)

        tokens = in_batches(group, self._batch_size, answers)
        for item, answer in zip(group, tokens, strict=True):
            text = family.tokenizer.decode(answer, skip_special_tokens=True)
            yield item.index, text.strip()

    def _cache_of(self, batch: Sequence[_Asked]) -> Any:
        """The decoder's memory of each row's prompt up to its image; None without images."""
        pictures = {item.picture.key: item.picture for item in batch if item.picture}
        if not pictures:
            return None
        family = self.family

        def views_of(part: list[_Picture]) -> Views:
            return family.views([picture.image for picture in part])

        def memory_of(views: Views) -> list[Any]:
            features = family.features_of(views)
            ids = torch.tensor([batch[0].opening] * len(features), device=device())
            inputs = torch.cat((family.embed(ids), features.to(family.model.dtype)), dim=1)
            return rows_of(remembered(family, inputs))

        rows = {key: row for row, key in enumerate(pictures)}
        wanted = [rows[item.picture.key] for item in batch if item.picture]
        shown = list(pictures.values())
        memories = in_prepared_batches(shown, self._image_batch_size, views_of, memory_of)
        return recalled(joined(list(memories)), wanted)


class _Pictures:
    """Images as `_Picture`s; one that is asked about often is hashed once."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._known: dict[int, _Picture] = {}
        self._tokens: dict[Hashable, int] = {}

    def get(self, image: Image.Image | None) -> _Picture | None:
        """The picture of an image object, which must outlive this."""
        if image is None:
            return None
        if id(image) not in self._known:
            rgb = to_rgb(image)
            shape = self._family.shape_of(rgb)
            if shape not in self._tokens:
                self._tokens[shape] = self._family.features([rgb]).shape[1]
            self._known[id(image)] = _Picture(
                image=rgb, key=image_id(rgb), shape=shape, tokens=self._tokens[shape]
            )
        return self._known[id(image)]


def _grouped(asked: Sequence[_Asked]) -> Iterator[list[_Asked]]:
    """Questions that can share a batch, those about one image side by side."""
    groups: dict[Hashable, list[_Asked]] = {}
    for item in asked:
        groups.setdefault(item.group, []).append(item)
    for group in groups.values():
        by_image: dict[str, list[_Asked]] = {}
        for item in group:
            by_image.setdefault(item.picture.key if item.picture else "", []).append(item)
        yield [item for items in by_image.values() for item in items]
