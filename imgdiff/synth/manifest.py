"""`run.json`: what an output folder holds, and whether it is the run that was asked for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from imgdiff import __version__
from imgdiff.backends.checkpoints import content_identity, locate
from imgdiff.core.console import say
from imgdiff.core.errors import ConfigError
from imgdiff.core.files import not_written, read_json, write_json
from imgdiff.synth.config import REMOVAL_ONLY, SPEED_ONLY, StopAfter, SynthConfig
from imgdiff.synth.report import NOISE

SOURCE_INDEX = "source.json"  # in the work folder: written when the whole source has been read
LOCK = ".lock"


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


def whole_settings(config: SynthConfig) -> dict[str, Any]:
    """`run_settings` with the identities of all that the data set is made from."""
    return run_settings(config) | {
        "checkpoints": _identities(config),
        "made_of": _made_of(config),
    }


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


@contextmanager
def sole_run(output: Path) -> Iterator[None]:
    """Hold an output folder; ConfigError where another run of this moment holds it."""
    lock = FileLock(output / LOCK, timeout=0)
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise ConfigError(
            f"output_dir={output}: another run is writing there now. Wait for its end, or choose "
            "another output_dir."
        ) from None
    except NotImplementedError:  # a file system without locks
        say(f"{output}: its file system has no locks; take care that no other run writes there.")
    except OSError as error:
        raise not_written(output / LOCK, error) from error
    try:
        yield
    finally:
        lock.release()


def already_done(output: Path, settings: dict[str, Any], *, overwrite: bool) -> bool:
    """Whether the folder holds this very run, complete. Another run's folder is refused.

    Else the folder is made ready and marked as begun. A run that ended before its source was read
    (a wrong path, a malformed file) holds nothing.
    """
    manifest = output / "run.json"
    if manifest.exists():
        held = read_json(manifest)
        ours = "settings" in held
        if ours and held["settings"] == settings:
            return bool(held["complete"])
        begun = not ours or held["complete"] or (output / "work" / SOURCE_INDEX).exists()
        if begun and not overwrite:
            differs = differences(held["settings"], settings)[:5] if ours else ["its command"]
            raise ConfigError(
                f"output_dir={output}: holds another run; it differs in {', '.join(differs)}. "
                "Choose another output_dir, or overwrite=true to replace it (stored scores are "
                "kept either way)."
            )
        for name in ("dataset", "work"):
            shutil.rmtree(output / name, ignore_errors=True)
    write_json(manifest, _record(settings, complete=False))
    return False


def complete(
    output: Path, settings: dict[str, Any], *, minutes: float, models_loaded: list[str]
) -> None:
    """Mark the folder's run as whole and drop its work in progress."""
    effort = {"minutes": round(minutes, 3), "models_loaded": models_loaded}
    write_json(output / "run.json", _record(settings, complete=True) | effort)
    shutil.rmtree(output / "work", ignore_errors=True)


def _record(settings: dict[str, Any], *, complete: bool) -> dict[str, Any]:
    record = {"complete": complete, "settings": settings, "imgdiff": __version__}
    noise = any(content.startswith("random-") for content in settings["checkpoints"].values())
    return record | ({"noise": NOISE} if noise else {})


def differences(held: Any, wanted: Any, key: str = "") -> list[str]:
    """Dotted keys whose values differ."""
    if isinstance(held, dict) and isinstance(wanted, dict):
        names = sorted(held.keys() | wanted.keys())
        return [
            found
            for name in names
            for found in differences(held.get(name), wanted.get(name), f"{key}.{name}".lstrip("."))
        ]
    return [] if held == wanted else [key]
