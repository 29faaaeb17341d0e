"""What OpenGVLab/InternVL computes, stated anew in plain torch, Pillow and string operations.

Independent of imgdiff on purpose: formulas with the original's own tensor names and fused layouts,
labels by re-tokenised lengths, tiles by the rule of `dynamic_preprocess`. transformers lends Qwen2
(the original uses that very class) and nothing else.
"""

# ruff: noqa: RUF001 - the authors' system prompt
from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

IGNORED = -100
SYSTEM = (
    "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，"
    "英文名叫InternVL, 是一个有用无害的人工智能助手。"
)
ASK, SAY, END = "<|im_start|>user\n", "<|im_start|>assistant\n", "<|im_end|>"
Tensors = dict[str, Tensor]
Tokenise = Callable[[str], list[int]]  # without an opening token


def read_tensors(folder: Path) -> Tensors:
    from safetensors.torch import load_file

    found: Tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= load_file(file)
    return found


class Original:
    """InternVLChatModel over a folder in the original format."""

    def __init__(self, folder: Path, image_id: int) -> None:
        self.config: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
        self.w = {name: value.float() for name, value in read_tensors(folder).items()}
        self.image_id = image_id

    def logits(self, ids_T: Tensor, views_K3SS: Tensor | None) -> Tensor:
        internlm2 = self.config["llm_config"]["model_type"] == "internlm2"
        name = "tok_embeddings" if internlm2 else "embed_tokens"
        x_TH = self.w[f"language_model.model.{name}.weight"][ids_T].clone()
        if views_K3SS is not None:
            x_TH[ids_T == self.image_id] = self.features(views_K3SS).flatten(0, 1)
        return self._internlm2(x_TH) if internlm2 else self._qwen2(x_TH)

    def loss(self, ids_T: Tensor, labels_T: Tensor, views_K3SS: Tensor | None) -> Tensor:
        return F.cross_entropy(self.logits(ids_T, views_K3SS)[:-1], labels_T[1:])

    def features(self, views_K3SS: Tensor) -> Tensor:
        """Vision tower, pixel shuffle (v2) and mlp1: K views of N tokens."""
        x_KPC = self._vision(views_K3SS)[:, 1:]
        count, patches, wide = x_KPC.shape
        side = math.isqrt(patches)
        grid = x_KPC.view(count, side // 2, 2, side // 2, 2, wide)
        # one token per 2 x 2 patches; the patch's column varies faster than its row
        merged = grid.permute(0, 1, 3, 2, 4, 5).reshape(count, (side // 2) ** 2, 4 * wide)
        merged = F.layer_norm(merged, (4 * wide,), self.w["mlp1.0.weight"], self.w["mlp1.0.bias"])
        return self._linear(F.gelu(self._linear(merged, "mlp1.1")), "mlp1.3")

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.w[f"{name}.weight"], self.w.get(f"{name}.bias"))

    def _vision(self, views_K3SS: Tensor) -> Tensor:
        cfg = self.config["vision_config"]
        at = "vision_model.embeddings."
        kernel, bias = (self.w[f"{at}patch_embedding.{part}"] for part in ("weight", "bias"))
        x = F.conv2d(views_K3SS, kernel, bias, stride=cfg["patch_size"]).flatten(2).mT
        first = self.w[f"{at}class_embedding"].expand(len(x), -1, -1)
        x = torch.cat([first, x], dim=1) + self.w[f"{at}position_embedding"]
        for layer in range(cfg["num_hidden_layers"]):
            at = f"vision_model.encoder.layers.{layer}."
            x = x + self.w[f"{at}ls1"] * self._vision_attention(self._norm(x, f"{at}norm1"), at)
            hidden = F.gelu(self._linear(self._norm(x, f"{at}norm2"), f"{at}mlp.fc1"))
            x = x + self.w[f"{at}ls2"] * self._linear(hidden, f"{at}mlp.fc2")
        return x

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self.w[f"{name}.weight"], self.w[f"{name}.bias"]
        eps = self.config["vision_config"]["layer_norm_eps"]
        return F.layer_norm(x, weight.shape, weight, bias, eps)

    def _vision_attention(self, x: Tensor, at: str) -> Tensor:
        heads = self.config["vision_config"]["num_attention_heads"]
        qkv = self._linear(x, f"{at}attn.qkv").unflatten(-1, (3, heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
        return self._linear((weights @ v).transpose(1, 2).flatten(2), f"{at}attn.proj")

    def _internlm2(self, x_TH: Tensor) -> Tensor:
        cfg = self.config["llm_config"]
        for layer in range(cfg["num_hidden_layers"]):
            at = f"language_model.model.layers.{layer}."
            x_TH = x_TH + self._attention(self._rms(x_TH, f"{at}attention_norm"), at)
            y = self._rms(x_TH, f"{at}ffn_norm")
            gated = F.silu(self._linear(y, f"{at}feed_forward.w1"))
            gated = gated * self._linear(y, f"{at}feed_forward.w3")
            x_TH = x_TH + self._linear(gated, f"{at}feed_forward.w2")
        last = self._rms(x_TH, "language_model.model.norm")
        return self._linear(last, "language_model.output")

    def _rms(self, x: Tensor, name: str) -> Tensor:
        eps = self.config["llm_config"]["rms_norm_eps"]
        return self.w[f"{name}.weight"] * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)

    def _attention(self, x_TH: Tensor, at: str) -> Tensor:
        """Each key-value head's queries, its key and its value lie together in wqkv."""
        cfg = self.config["llm_config"]
        heads, shared = cfg["num_attention_heads"], cfg["num_key_value_heads"]
        dim, group = cfg["hidden_size"] // heads, heads // shared
        fused = self._linear(x_TH, f"{at}attention.wqkv").view(-1, shared, group + 2, dim)
        q = fused[:, :, :group].flatten(1, 2).transpose(0, 1)
        k, v = (fused[:, :, place].transpose(0, 1) for place in (-2, -1))
        q, k = (_rotated(part, cfg) for part in (q, k))
        k, v = (part.repeat_interleave(group, dim=0) for part in (k, v))
        scores = q @ k.mT / math.sqrt(dim)
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        weights = scores.masked_fill(later, float("-inf")).softmax(-1)
        return self._linear((weights @ v).transpose(0, 1).flatten(1), f"{at}attention.wo")

    def _qwen2(self, x_TH: Tensor) -> Tensor:
        from transformers import Qwen2Config, Qwen2ForCausalLM

        cfg = self.config["llm_config"]
        kept = {k: v for k, v in cfg.items() if not k.startswith(("rope", "arch", "model_type"))}
        rope = {"rope_type": "default", "rope_theta": cfg["rope_theta"]}
        model = Qwen2ForCausalLM(Qwen2Config(**kept, rope_parameters=rope)).eval()
        prefix = "language_model."
        own = {k[len(prefix) :]: v for k, v in self.w.items() if k.startswith(prefix)}
        model.load_state_dict(own)
        with torch.no_grad():
            return model(inputs_embeds=x_TH[None]).logits[0]


def _rotated(x_HTD: Tensor, cfg: dict[str, Any]) -> Tensor:
    """Rotary embedding; "dynamic" grows the base past max_position, "linear" slows positions."""
    _, length, dim = x_HTD.shape
    theta, limit = float(cfg["rope_theta"]), cfg["max_position_embeddings"]
    scaling = cfg["rope_scaling"] or {"type": "none", "factor": 1.0}
    factor = scaling["factor"]
    if scaling["type"] == "dynamic" and length > limit:
        theta *= (factor * length / limit - (factor - 1)) ** (dim / (dim - 2))
    positions = torch.arange(length).float() / (factor if scaling["type"] == "linear" else 1.0)
    speeds = theta ** (-torch.arange(0, dim, 2).float() / dim)
    angles = torch.outer(positions, speeds)
    cos, sin = angles.cos(), angles.sin()
    left, right = x_HTD.chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)


def prompt(turns: Sequence[tuple[str, str]], counts: Sequence[int], *, strips: bool) -> str:
    """The text that the authors tokenise, image tokens written out."""
    turns = list(turns)
    if counts and "<image>" not in turns[0][0]:
        turns[0] = ("<image>\n" + turns[0][0], turns[0][1])
    text = f"<|im_start|>system\n{SYSTEM}{END}"
    for question, answer in turns:
        q, a = (question.strip(), answer.strip()) if strips else (question, answer)
        text += ASK + (q + END if q else "") + SAY + (a + END if a else "")
    for count in counts:
        text = text.replace("<image>", f"<img>{'<IMG_CONTEXT>' * count}</img>", 1)
    return text


def internlm_ids(text: str, tokenise: Tokenise, opening: int) -> tuple[list[int], list[int]]:
    """Ids and labels by `preprocess_internlm`'s rule; all IGNORED where lengths do not add up."""
    ids = [opening, *tokenise(text)]
    labels = [IGNORED]
    first, *between, last = text.split(SAY)
    labels += [IGNORED] * len(tokenise(first + SAY))
    for stretch in between:
        answer, question = stretch.split(ASK)
        labels += [0] * len(tokenise(answer))
        labels += [IGNORED] * len(tokenise(ASK + question + SAY))
    labels += [0] * len(tokenise(last))
    return ids, _filled(ids, labels)


def mpt_ids(text: str, tokenise: Tokenise) -> tuple[list[int], list[int]]:
    """Ids and labels by `preprocess_mpt`'s rule; all IGNORED where lengths do not add up."""
    ids, labels = tokenise(text), []
    parts = text.split(END)
    turns = [END.join(parts[:3]), *(END.join(parts[n : n + 2]) for n in range(3, len(parts), 2))]
    for turn in turns:
        halves = turn.split(END + SAY)
        if turn == "" or len(halves) != 2:
            break
        asked = len(tokenise(halves[0] + END + SAY))
        labels += [IGNORED] * asked + [0] * (len(tokenise(turn)) + 1 - asked)
    return ids, _filled(ids, labels)


def _filled(ids: list[int], labels: list[int]) -> list[int]:
    if len(labels) != len(ids):
        return [IGNORED] * len(ids)
    return [
        IGNORED if label == IGNORED else token for token, label in zip(ids, labels, strict=True)
    ]


def tiles(image: Image.Image, max_tiles: int, side: int) -> list[Image.Image]:
    """The views of an RGB image, in order."""
    width, height = image.size
    shapes = {(c, r) for n in range(1, max_tiles + 1) for c in range(1, n + 1)
              for r in range(1, n + 1) if c * r <= max_tiles}  # fmt: skip
    best, best_gap = (1, 1), math.inf
    for columns, rows in sorted(shapes, key=lambda shape: shape[0] * shape[1]):
        gap = abs(width / height - columns / rows)
        if gap < best_gap:
            best, best_gap = (columns, rows), gap
        elif gap == best_gap and width * height > 0.5 * side * side * columns * rows:
            best = (columns, rows)
    columns, rows = best
    whole = image.resize((side * columns, side * rows))
    found = []
    for number in range(columns * rows):
        left, top = number % columns * side, number // columns * side
        found.append(whole.crop((left, top, left + side, top + side)))
    return [*found, image.resize((side, side))] if len(found) > 1 else found


def pixels(views: Sequence[Image.Image], side: int) -> Tensor:
    """What `build_transform` makes of views, by torchvision itself."""
    from torchvision import transforms as T
    from torchvision.transforms import InterpolationMode

    transform = T.Compose([
        T.Resize((side, side), interpolation=InterpolationMode.BICUBIC),
        T.ToTensor(),
        T.Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    ])  # fmt: skip
    return torch.stack([transform(view) for view in views])


def pieces_by_score(text: str, scores: dict[str, float], symbols: Sequence[str]) -> list[str]:
    """sentencepiece's encoder: symbols first, then the best-scored neighbours joined, leftmost."""
    parts: list[str] = []
    rest = text.replace(" ", "▁")
    while rest:
        symbol = max((s for s in symbols if rest.startswith(s)), key=len, default="")
        parts.append(symbol or rest[0])
        rest = rest[len(parts[-1]) :]
    frozen = set(symbols)
    while True:
        joins = [
            (-scores[a + b], place)
            for place, (a, b) in enumerate(pairwise(parts))
            if a + b in scores and a not in frozen and b not in frozen
        ]
        if not joins:
            break
        place = min(joins)[1]
        parts[place : place + 2] = ["".join(parts[place : place + 2])]
    known = frozen | set(scores)
    spelled = ([part] if part in known else
               [f"<0x{byte:02X}>" for byte in part.encode()] for part in parts)  # fmt: skip
    return [piece for pieces in spelled for piece in pieces]
