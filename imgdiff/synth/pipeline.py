"""One synthesis run: check, shard the source, work the shards, join the parts, report."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

from imgdiff import __version__
from imgdiff.backends.checkpoints import content_identity, locate, require
from imgdiff.core.console import say, show_table
from imgdiff.core.errors import BackendError, ConfigError, DataError
from imgdiff.core.files import read_json, remove_unfinished, write_json
from imgdiff.core.identity import fingerprint
from imgdiff.synth.audit import audit_report
from imgdiff.synth.config import REMOVAL_ONLY, SPEED_ONLY, StopAfter, SynthConfig
from imgdiff.synth.export import assemble, chosen_entries, chunked
from imgdiff.synth.funnel import Funnel
from imgdiff.synth.report import FIGURES, write_card, write_gallery
from imgdiff.synth.selection import RegionsFrom
from imgdiff.synth.sources import Unit, captions
from imgdiff.synth.states import caption_to_json
from imgdiff.synth.work import Layout, run_shards

SOURCE_INDEX = "source.json"  # in the work folder: written when the whole source has been read


def run(config: SynthConfig) -> None:
    """Make the data set of `config` in `config.output_dir`; resumes, or says it is already there.

    Raises ConfigError for an output folder of another run and BackendError for absent checkpoints,
    both before any work.
    """
    clock = time.monotonic()
    output = Path(config.output_dir)
    _check_inputs(config)
    settings = run_settings(config) | {
        "checkpoints": _identities(config),
        "made_of": _made_of(config),
    }
    if _already_done(output, settings, overwrite=config.overwrite):
        say(f"{output} already holds this run; nothing to do.")
        _show(output)
        return
    layout = Layout(
        output=output,
        store=Path(config.store_dir),
        source=fingerprint(settings["source"] | {"limit": None}, config.seed, config.shard_size),
    )
    remove_unfinished(output)
    shards, items = write_shards(config, layout)
    loaded = run_shards(config, layout, shards, items)
    parts = [layout.part(shard) for shard in range(shards)]
    finish(config, layout, parts)
    minutes = (time.monotonic() - clock) / 60
    manifest = {"complete": True, "settings": settings, "imgdiff": __version__}
    write_json(
        output / "run.json", manifest | {"minutes": round(minutes, 3), "models_loaded": loaded}
    )
    shutil.rmtree(output / "work")
    _show(output)
    say(f"{output}: dataset/img_diff.json, gallery.html, audit.json, funnel.json")


def _check_inputs(config: SynthConfig) -> None:
    """One error for all that is absent: checkpoints, and paths that were never set."""
    unset = config.source.unset()
    try:
        require(config.needed())
    except BackendError as error:
        raise BackendError(f"{error}\nAlso {unset}" if unset else str(error)) from None
    if unset:
        raise ConfigError(unset)


def _identities(config: SynthConfig) -> dict[str, str]:
    """What each checkpoint holds: a name may stand for other weights tomorrow."""
    return {item.key: content_identity(locate(item.key, item.model)) for item in config.needed()}


def _made_of(config: SynthConfig) -> dict[str, str]:
    """What else the data set depends on: the code that makes it, and the source's annotations."""
    return {
        "imgdiff": __version__,
        "generator": _generator_identity(config),
        "source": config.source.content(),
    } | ({"inpainter": config.inpainter.build().identity} if config.edit.removes else {})


def _generator_identity(config: SynthConfig) -> str:
    """Empty where no pair is drawn: its checkpoint may be absent then."""
    if config.stop_after is StopAfter.edit:
        return ""
    identity: str = config.generator.build().identity
    return identity


def run_settings(config: SynthConfig) -> dict[str, Any]:
    """All settings that can change the data set, as plain values."""
    from omegaconf import OmegaConf

    plain = OmegaConf.to_container(OmegaConf.structured(config), enum_to_str=True)
    assert isinstance(plain, dict)
    ignored = set(SPEED_ONLY)
    if not config.edit.removes:  # what no one reads does not tell runs apart
        ignored |= REMOVAL_ONLY
        del plain["rules"]["removal"]
    return {str(key): value for key, value in plain.items() if key not in ignored}


def _already_done(output: Path, settings: dict[str, Any], *, overwrite: bool) -> bool:
    """Whether the folder holds this very run, complete. Another run's folder is refused.

    A run that ended before its source was read (a wrong path, a malformed file) holds nothing.
    """
    manifest = output / "run.json"
    if manifest.exists():
        held = read_json(manifest)
        ours = "settings" in held
        if ours and held["settings"] == settings:
            return bool(held["complete"])
        begun = not ours or held["complete"] or (output / "work" / SOURCE_INDEX).exists()
        if begun and not overwrite:
            differs = _differences(held["settings"], settings)[:5] if ours else ["its command"]
            raise ConfigError(
                f"output_dir={output}: holds another run; it differs in {', '.join(differs)}. "
                "Choose another output_dir, or overwrite=true to replace it (stored scores are "
                "kept either way)."
            )
        for name in ("dataset", "work"):
            shutil.rmtree(output / name, ignore_errors=True)
    write_json(manifest, {"complete": False, "settings": settings, "imgdiff": __version__})
    return False


def _differences(held: Any, wanted: Any, key: str = "") -> list[str]:
    """Dotted keys whose values differ."""
    if isinstance(held, dict) and isinstance(wanted, dict):
        names = sorted(held.keys() | wanted.keys())
        return [
            found
            for name in names
            for found in _differences(held.get(name), wanted.get(name), f"{key}.{name}".lstrip("."))
        ]
    return [] if held == wanted else [key]


def write_shards(config: SynthConfig, layout: Layout) -> tuple[int, int]:
    """Stream the source into shard files; returns the numbers of shards and of items."""
    index = layout.output / "work" / SOURCE_INDEX
    if index.exists():
        counts = read_json(index)
        return int(counts["shards"]), int(counts["items"])
    items = 0
    number = -1
    stream = captions(config.source, config.seed, Unit(config.unit))
    for number, rows in enumerate(chunked(stream, config.shard_size)):
        write_json(layout.shard(number), [caption_to_json(row) for row in rows])
        items += len(rows)
    if not items:
        raise DataError("source: holds no record at all. Check the file or folder and its split.")
    write_json(index, {"shards": number + 1, "items": items})
    return number + 1, items


def finish(config: SynthConfig, layout: Layout, parts: list[Path]) -> None:
    """Join the parts into the data set and write funnel, audit, card and gallery."""
    funnel, audit = Funnel(), Counter[str]()
    gallery: list[dict[str, Any]] = []
    for part in parts:
        rows = read_json(part)
        funnel.add(rows["funnel"])
        audit.update(rows["audit"])
        gallery = chosen_entries(gallery + rows["gallery"], config.export)
    stop = config.stop_after
    last = "" if stop is StopAfter.export else stop.value
    report = funnel.report(last, config.edit)
    embed = config.export.parquet_images
    assemble(parts, layout.output, embed_images=embed, edit=config.edit)
    write_json(layout.output / "funnel.json", report)
    by_record = config.rules.regions_from is RegionsFrom.truth
    audited = audit_report(audit, by_construction=by_record, edit=config.edit)
    write_json(layout.output / "audit.json", audited)
    write_card(layout.dataset / "README.md", run_settings(config), report, audited)
    write_gallery(layout.output / "gallery.html", gallery, layout.store, report)


def _show(output: Path) -> None:
    """The short table at the end of a run."""
    funnel, audit = read_json(output / "funnel.json"), read_json(output / "audit.json")
    rows = [
        (
            step["stage"],
            step["in"],
            step["out"],
            "; ".join(f"{n} {r}" for r, n in step["rejected"].items()),
        )
        for level in ("items", "regions", "removals")
        for step in funnel.get(level, ())
        if step["in"]
    ]
    show_table("Funnel", ("stage", "in", "out", "rejected"), rows)
    figures = ("n_pairs", *FIGURES)
    known = [(key, audit[key]) for key in figures if audit.get(key) is not None]
    if audit["n_pairs"]:
        show_table("Audit against the generator's truth", ("figure", "value"), known)
        if audit["remark"]:
            say(audit["remark"])
    say(f"{funnel['samples']} samples from {funnel['pairs_with_samples']} pairs")
