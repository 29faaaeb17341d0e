"""Teaches BLIP's retrieval model the objects of photos. See removal_photos.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from photo_crops import ANYTHING, Shown
from photo_views import Plan, Views
from transformers import BertTokenizer, BlipForImageTextRetrieval

from imgdiff.backends.checkpoints import mini_root
from imgdiff.backends.loading import quietly
from imgdiff.core.identity import seed_for
from imgdiff.mini.build.blip import NAME, BlipTask, image_processor
from imgdiff.mini.build.export import export
from imgdiff.mini.build.loop import LoopConfig, autocast, train
from imgdiff.mini.build.muon import muon
from imgdiff.mini.build.tokenizers import BERT_TOKENS, bert_tokenizer


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the matcher is trained."""

    loop: LoopConfig
    plan: Plan = field(default_factory=Plan)
    from_mini: bool = True  # otherwise from random weights
    seed: int = 0


def teach(photos: Sequence[Shown], words: Sequence[str], folder: Path, recipe: Recipe) -> None:
    """Train (or resume) on these photos and write a checkpoint that the BLIP backend loads."""
    torch.manual_seed(recipe.seed)
    tokenizer = tokenizer_of(words)
    task = BlipTask(tokenizer)
    if recipe.from_mini:
        begin_from_mini(task.blip)
    views = Views(photos, recipe.plan, recipe.seed)

    def loss_of(step: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng(seed_for(recipe.seed, str(step), "photo pairs"))
        with autocast():
            losses: dict[str, torch.Tensor] = task(views.batch(step), rng)
        return losses

    train(task, loss_of, recipe.loop, folder.with_suffix(".state.pt"), muon)
    export(task.blip, (tokenizer, image_processor()), folder)


def words_of(photos: Sequence[Shown]) -> list[str]:
    """Every word of the categories and supercategories of these photos, sorted."""
    items = [item for photo in photos for item in photo.objects]
    names = {ANYTHING, *(i.category for i in items), *(i.supercategory for i in items)}
    return sorted({word for name in names for word in name.split()})


def tokenizer_of(words: Sequence[str]) -> BertTokenizer:
    """The mini family's WordPiece, and one more token for each word that it lacks."""
    known = sorted(bert_tokenizer().get_vocab().items(), key=lambda item: item[1])
    vocabulary = dict(known)
    for word in words:
        vocabulary.setdefault(word, len(vocabulary))
    return BertTokenizer(
        vocab=vocabulary, do_lower_case=True, model_max_length=BERT_TOKENS, bos_token="[DEC]"
    )


def begin_from_mini(blip: BlipForImageTextRetrieval) -> None:
    """Copy the shipped mini BLIP; tokens that it does not know keep their random start."""
    with quietly():
        folder = mini_root() / NAME
        old = BlipForImageTextRetrieval.from_pretrained(folder, dtype=torch.float32).state_dict()
    with torch.no_grad():
        for name, value in blip.state_dict().items():
            value[: len(old[name])] = old[name]
