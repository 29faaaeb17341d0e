"""Time and memory of the caption metrics against pycocoevalcap's own, in one run.

    python benchmarks/caption_metrics.py --annotations DIR [--rounds 3]

DIR holds spot-the-diff/test.json. The 1,270 captions are sentences of other images. Each
measurement is a process of its own, ours and theirs in turn. Theirs is PTBTokenizer for references
and hypotheses, Bleu, Meteor, Rouge and Cider, in one process, as its eval.py calls them without
SPICE. Ours is the same work: tokens, per-item statistics and corpus scores. `diagnostics` (with a
constant caption scored beside) and `bootstrap` are what our scores have on top. Seconds are wall
time from the first call on; they need an idle machine. Timings are for people; nothing asserts
them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from imgdiff.core.console import say, show_table
from imgdiff.eval.captions.bootstrap import RESAMPLES, intervals
from imgdiff.eval.captions.diagnostics import diagnose
from imgdiff.eval.captions.java import JVM_OPTIONS, find_java
from imgdiff.eval.captions.scoring import open_tools, tokenise
from imgdiff.eval.captions.statistics import METRICS, corpus_scores, measure
from imgdiff.eval.captions.texts import CaptionSet

OTHER = 7  # the hypothesis of an image is the first sentence of the image so many places further


def captions_of(annotations: Path) -> CaptionSet:
    """Spot-the-Diff's test images with all their sentences, and a wrong sentence for each."""
    merged: dict[str, list[str]] = {}
    rows = json.loads((annotations / "spot-the-diff" / "test.json").read_text("utf-8"))
    for row in rows:
        merged.setdefault(row["img_id"], []).extend(row["sentences"])
    references = tuple(map(tuple, merged.values()))
    return CaptionSet(
        ids=tuple(merged),
        hypotheses=tuple(
            references[(place + OTHER) % len(references)][0] for place in range(len(references))
        ),
        references=references,
    )


def ours(captions: CaptionSet) -> dict[str, Any]:
    """Our seconds by part, and our scores."""
    start = time.perf_counter()
    with open_tools() as tools:
        tokenised = tokenise(captions, tools.java)
        counted = measure(tokenised, tokenizer="ptb", meteor=tools.meteor)
        scores = corpus_scores(counted)
        scored = time.perf_counter()
        diagnose(tokenised, counted, meteor=tools.meteor)
        diagnosed = time.perf_counter()
    closed = time.perf_counter()
    intervals(counted)
    return {
        "scoring": scored - start,
        "diagnostics": diagnosed - scored,
        "bootstrap": time.perf_counter() - closed,
        "scores": scores,
        **children(),
    }


def theirs(captions: CaptionSet) -> dict[str, Any]:
    """The seconds and scores of pycocoevalcap. Leaves without its destructor, which may block."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    texts = zip(captions.ids, captions.hypotheses, captions.references, strict=True)
    references, hypotheses = {}, {}
    for id_, hypothesis, sentences in texts:
        references[id_] = [{"caption": sentence} for sentence in sentences]
        hypotheses[id_] = [{"caption": hypothesis}]
    start = time.perf_counter()
    tokenizer = PTBTokenizer()
    gts, res = tokenizer.tokenize(references), tokenizer.tokenize(hypotheses)
    bleu = Bleu(4).compute_score(gts, res, verbose=0)[0]
    scorer = Meteor()
    scores = {
        **{f"bleu_{order}": score for order, score in enumerate(bleu, 1)},
        "meteor": scorer.compute_score(gts, res)[0],
        "rouge_l": float(Rouge().compute_score(gts, res)[0]),
        "cider_d": float(Cider().compute_score(gts, res)[0]),
    }
    scored = time.perf_counter()
    scorer.meteor_p.kill()
    scorer.meteor_p.wait()
    return {"scoring": scored - start, "scores": scores, **children()}


def children() -> dict[str, float]:
    """Peak resident MiB of the largest child process, and CPU seconds of all (Linux units)."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"java MiB": used.ru_maxrss / 1024, "java CPU s": used.ru_utime + used.ru_stime}


def measured(worker: str, annotations: Path) -> dict[str, Any]:
    """The answer of one process."""
    with tempfile.TemporaryDirectory() as name:
        answer = Path(name) / "answer.json"
        command = [sys.executable, __file__, "--annotations", str(annotations)]
        command += ["--worker", worker, "--answer", str(answer)]
        subprocess.run(command, check=True, timeout=600)
        found: dict[str, Any] = json.loads(answer.read_text("utf-8"))
        return found


def report(rounds: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    """Medians, the ratio, and whether the scores are equal."""
    parts = ("scoring", "diagnostics", "bootstrap", "java MiB", "java CPU s")
    rows = [
        (
            part,
            *(
                f"{statistics.median(values):.2f}" if values else ""
                for side in (0, 1)
                for values in [[pair[side][part] for pair in rounds if part in pair[side]]]
            ),
        )
        for part in parts
    ]
    show_table("medians", ("", "imgdiff", "pycocoevalcap"), rows)
    ratios = [mine["scoring"] / other["scoring"] for mine, other in rounds]
    say(f"scoring, ratio by round: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
    say(f"scoring, median ratio: {statistics.median(ratios):.2f} (target: at most 1.1)")
    say(f"bootstrap: {RESAMPLES} resamples of {', '.join(METRICS)}")
    say(f"our Java: {' '.join(JVM_OPTIONS)}")
    equal = all(mine["scores"] == other["scores"] for mine, other in rounds)
    say(f"scores equal to the last digit: {'yes' if equal else 'NO'}")
    for metric, score in rounds[0][0]["scores"].items():
        say(f"  {metric:8} {score!r}   pycocoevalcap {rounds[0][1]['scores'][metric]!r}")


def main() -> None:
    """Measure in turn, or do one measurement as a worker."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", choices=("ours", "theirs"))
    parser.add_argument("--answer", type=Path)
    arguments = parser.parse_args()
    if arguments.worker:
        work = ours if arguments.worker == "ours" else theirs
        answer = work(captions_of(arguments.annotations))
        arguments.answer.write_text(json.dumps(answer), "utf-8")
        sys.stdout.flush()
        os._exit(0)
    java = find_java()
    if java is None:
        sys.exit("no Java: nothing to compare")
    os.environ["PATH"] = f"{java.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    pairs = []
    for number in range(arguments.rounds):
        order = ("ours", "theirs") if number % 2 == 0 else ("theirs", "ours")
        found = {worker: measured(worker, arguments.annotations) for worker in order}
        pairs.append((found["ours"], found["theirs"]))
    report(pairs)


if __name__ == "__main__":
    main()
