"""The door of every command: find `conf/`, compose it, type it, run it, and fail in one message.

A room's `__main__.py` calls `run_main`; scripts and tests call `compose_typed`. Only Hydra and
OmegaConf are imported here, and only inside the functions, so a command's `--help` is quick.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from imgdiff.core.errors import ConfigError, ImgdiffError

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from omegaconf.errors import OmegaConfBaseException

HYDRA_VERSION = "1.3"  # the defaults of Hydra that our configs are written for
EXIT_REFUSED = 2
EXIT_INTERRUPTED = 130  # as shells report SIGINT
MARKER = "synth.yaml"  # the file that tells our conf folder from another one

T = TypeVar("T")


def conf_dir() -> Path:
    """The folder of the configs: the checkout's `conf`, else the one packaged as `imgdiff/conf`.

    Raises ConfigError, naming both places, when neither holds `synth.yaml`.
    """
    package = Path(__file__).resolve().parent
    places = (package.parent / "conf", package / "conf")
    for place in places:
        if (place / MARKER).is_file():
            return place
    raise ConfigError(
        f"no conf folder: looked for {MARKER} in {places[0]} and {places[1]}. "
        "Run from a complete checkout, or install the imgdiff wheel again."
    )


def to_typed(raw: DictConfig, kind: type[T]) -> T:
    """The composed config as an instance of the dataclass `kind`, its own rules checked.

    An untyped config is merged onto the schema of `kind` first. Raises ConfigError for a key the
    schema does not have (also one added with `+`), a wrong type, a missing value or a broken rule.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        typed = raw
        if not _is_schema_of(raw, kind):
            typed = OmegaConf.merge(OmegaConf.structured(kind), raw)  # type: ignore[assignment]
        _refuse_extra_keys(typed)
        built = OmegaConf.to_object(typed)
    except OmegaConfBaseException as error:
        raise explain(error) from error
    if not isinstance(built, kind):
        raise ConfigError(f"config is a {type(built).__name__}, but {kind.__name__} is needed")
    return built


def compose_typed(
    config_name: str, kind: type[T], overrides: Sequence[str] = (), folder: Path | None = None
) -> T:
    """What `python -m imgdiff.<config_name> <overrides>` would run with; raises ConfigError.

    Values that only a running Hydra job has (`${hydra:...}`) cannot be used in such a config.
    """
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    place = (folder or conf_dir()).resolve()
    try:
        with hydra.initialize_config_dir(str(place), version_base=HYDRA_VERSION):
            raw = hydra.compose(config_name, list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise explain(error, groups=_groups(place)) from error
    return to_typed(raw, kind)


def run_main(
    config_name: str,
    kind: type[T],
    job: Callable[[T], object],
    folder: Path | None = None,
    *,
    command: str = "",
) -> None:
    """Run `job` on the config that the command line composes (Hydra's flags and multirun included).

    `command` is what follows `python -m imgdiff.` where that is not the name of the config.
    Whatever imgdiff or Hydra refuses ends the process with one message on stderr and exit code 2,
    without a traceback, and so does Ctrl-C (exit code 130). A defect of the program keeps its
    traceback.
    """
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    def task(raw: DictConfig) -> None:
        # Inside the task: Hydra would print the overrides above an error that leaves it.
        try:
            job(to_typed(with_own_folder(raw), kind))
        except ImgdiffError as error:
            refuse(command or config_name, error)

    task.__module__ = f"imgdiff.{config_name}"  # Hydra names the job after the task's module
    try:
        place = (folder or conf_dir()).resolve()
        if {"-h", "--help"} & set(sys.argv[1:]):
            sys.stdout.write(_help(place, config_name, command or config_name))
            return
        decorate = hydra.main(
            version_base=HYDRA_VERSION, config_path=str(place), config_name=config_name
        )
        # Else Hydra prints errors of composing itself, its own way, and exits with 1.
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")
        decorate(task)()
    except ImgdiffError as error:
        refuse(command or config_name, error)
    except (HydraException, OmegaConfBaseException) as error:
        refuse(command or config_name, explain(error, groups=_groups(place)))
    except KeyboardInterrupt:
        sys.stderr.write(f"imgdiff.{command or config_name}: stopped by Ctrl-C.\n")
        raise SystemExit(EXIT_INTERRUPTED) from None


def take_literally(keys: Sequence[str]) -> None:
    """Quote the values of these keys on the command line, so that Hydra reads no syntax in them.

    A comma would be a sweep, a bracket a list and an apostrophe an open quote. `null` stays null,
    and a value that is quoted for Hydra already stays as it is.
    """
    sys.argv[1:] = [_literal(argument, keys) for argument in sys.argv[1:]]


def let_grow(maps: Sequence[str]) -> None:
    """Let `MAP.NAME.key=value` on the command line add the entry NAME to a map of settings.

    Hydra wants `++` before a key that is not there yet.
    """
    sys.argv[1:] = [
        f"++{argument}" if any(argument.startswith(f"{name}.") for name in maps) else argument
        for argument in sys.argv[1:]
    ]


def _literal(argument: str, keys: Sequence[str]) -> str:
    key, equals, value = argument.partition("=")
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    if key not in keys or not equals or quoted or value in ("", "null"):
        return argument
    # Hydra: a backslash counts where it stands before a quote; OmegaConf: ${ opens an expression.
    escaped = re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + ('\\"' if m[2] else ""), value)
    escaped = re.sub(r"(\\*)\$\{", r"\1\1\\${", escaped)
    return f'{key}="{escaped}"'


def with_own_folder(raw: DictConfig) -> DictConfig:
    """In a multirun each job writes into its folder of the sweep, unless the user names one.

    Of the job that `HydraConfig` holds.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    settings = HydraConfig.get()
    named = any(item.split("=")[0] == "output_dir" for item in settings.overrides.task)
    if settings.mode is RunMode.MULTIRUN and "output_dir" in raw and not named:
        raw.output_dir = str(Path(settings.sweep.dir) / settings.sweep.subdir)
    return raw


def in_multirun() -> bool:
    """Whether this job is one of several that Hydra runs (`-m`)."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN


def explain(error: Exception, groups: Sequence[str] = ()) -> ConfigError:
    """A ConfigError that says what Hydra or OmegaConf refused: key, value, rule and remedy.

    `groups` are names of config groups, offered as corrections of a mistyped top-level key.
    """
    from hydra.errors import MissingConfigException
    from omegaconf.errors import OmegaConfBaseException

    for link in _chain(error):
        if isinstance(link, OmegaConfBaseException):
            return ConfigError(_explain_node(link, groups))
        if isinstance(link, MissingConfigException):
            return ConfigError(_explain_choice(link))
    text = str(error).split("\nSee http")[0]  # a link to the grammar of another Hydra version
    return ConfigError(f"{' '.join(text.split())}. Write overrides as key=value; see --help.")


def _explain_node(error: OmegaConfBaseException, groups: Sequence[str]) -> str:
    """The message for one refused key or value."""
    from omegaconf import errors

    key = error.full_key or str(error.key)
    rule = str(error.msg or error).split("\n")[0]
    if isinstance(error, (errors.ConfigAttributeError, errors.ConfigKeyError)):
        return _unknown_key(key, error.parent_node, groups)
    if isinstance(error, errors.MissingMandatoryValue):
        return f"{key} is required and not set. Add {key}=... to the command."
    if isinstance(error, errors.InterpolationResolutionError):
        return f"{key}: {rule}. Set {key} to a plain value or correct the ${{...}}."
    if isinstance(error, errors.ValidationError):
        value = "null" if error.value is None else error.value
        return f"{key}={value}: {rule}. Give {key} a value of that kind."
    return f"{key}: {rule}. See --help for the keys and their values."


def _explain_choice(error: Any) -> str:
    """The message for an option that a config group does not have, or a missing config file."""
    name, options = str(error.missing_cfg_file or ""), list(error.options or ())
    group, _, choice = name.rpartition("/")
    if not options:
        first = str(error).split("\n")[0].rstrip(".")
        return f"{first}. The --help of the command lists the groups and their options."
    hint = _did_you_mean(choice, options)
    return f"{group}={choice}: no such option.{hint} Options of {group}: {', '.join(options)}."


def _unknown_key(key: str, parent: Any, groups: Sequence[str]) -> str:
    """The message for a key that its parent (a node, or the list of legal keys) does not have."""
    from omegaconf import DictConfig, OmegaConf

    here, _, leaf = key.rpartition(".")
    legal = sorted(str(name) for name in parent or () if name != "hydra")
    # OmegaConf has no public way up from a node; `_get_root` is what its own messages use.
    root = OmegaConf.to_container(parent._get_root()) if isinstance(parent, DictConfig) else {}
    prefix = f"{here}." if here else ""
    near = [prefix + name for name in difflib.get_close_matches(leaf, legal, n=3)]
    if not here:
        near += difflib.get_close_matches(leaf, groups, n=3)
    # A right name under a wrong parent is the other common slip: `lr=1` for `optim.lr=1`.
    elsewhere = (path for path in _leaf_paths(root, leaf) if not path.startswith("hydra."))
    near += list(itertools.islice(elsewhere, 3))
    hint = f" Did you mean {' or '.join(dict.fromkeys(near))}?" if near else ""
    return f"unknown key {key}.{hint} Keys of {here or 'the config'}: {', '.join(legal)}."


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    """` Did you mean ...?`, or nothing where no known name is close."""
    near = difflib.get_close_matches(name, known, n=3)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def _leaf_paths(node: Any, leaf: str, path: str = "") -> Iterator[str]:
    """Dotted paths in a config of plain dicts whose last part is `leaf`."""
    if isinstance(node, dict):
        for name, child in node.items():
            if name == leaf:
                yield f"{path}{name}"
            yield from _leaf_paths(child, leaf, f"{path}{name}.")


def _is_schema_of(raw: DictConfig, kind: type) -> bool:
    from omegaconf import OmegaConf

    found = OmegaConf.get_type(raw)
    return isinstance(found, type) and issubclass(found, kind)


def _refuse_extra_keys(node: Any, path: str = "") -> None:
    """Raise ConfigError for a key beside a schema: `+key=...` adds it and nobody would read it."""
    from omegaconf import DictConfig, ListConfig, OmegaConf

    if not isinstance(node, (DictConfig, ListConfig)) or _is_hollow(node):
        return
    if isinstance(node, DictConfig):
        children: list[tuple[str, Any]] = [(str(key), node._get_node(key)) for key in node]
        kind = OmegaConf.get_type(node)
        known = {f.name for f in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else ()
        for name, _ in children:
            if known and name not in known:
                raise ConfigError(_unknown_key(f"{path}{name}", sorted(known), ()))
    else:
        children = [(str(index), node._get_node(index)) for index in range(len(node))]
    for name, child in children:
        _refuse_extra_keys(child, f"{path}{name}.")


def _is_hollow(node: Any) -> bool:
    """Whether the node has no children of its own: null, `???` or an interpolation."""
    return bool(node._is_none() or node._is_missing() or node._is_interpolation())


def _groups(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir())


def _help(folder: Path, config_name: str, command: str) -> str:
    """What --help prints.

    Hydra's own would list the groups of all commands that share conf/, and takes a second to find
    them.
    """
    import hydra
    from omegaconf import OmegaConf

    overrides = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    with hydra.initialize_config_dir(str(folder), version_base=HYDRA_VERSION):
        values = OmegaConf.to_yaml(hydra.compose(config_name, overrides))
    return (
        f"python -m imgdiff.{command} [group=option] [key=value] [-m key=value1,value2]\n\n"
        f"Groups and their options (group=option):\n\n{_groups_help(folder, config_name)}\n\n"
        f"Values as composed (key=value changes one):\n\n{values}\n"
        "--cfg job shows what would run. -m runs every combination of comma-separated values.\n"
    )


def _groups_help(folder: Path, config_name: str) -> str:
    """A line for each group that a root config chooses from, with its options."""
    options = options_of(folder, config_name)
    return "\n".join(f"{group}: {', '.join(names)}" for group, names in options.items())


def options_of(folder: Path, config_name: str) -> dict[str, list[str]]:
    """The options of the groups that the defaults list of a root config names, in its order.

    Of nested options (experiment/train/NAME) those of this command are named.
    """
    from omegaconf import OmegaConf

    whole = OmegaConf.to_container(OmegaConf.load(folder / f"{config_name}.yaml"), resolve=False)
    found: dict[str, list[str]] = {}
    for entry in whole.get("defaults", []) if isinstance(whole, dict) else []:
        if isinstance(entry, str) and (folder / f"{entry}.yaml").is_file():
            found |= options_of(folder, entry)
        elif isinstance(entry, dict):
            for group in map(str, entry):
                names = [path.stem for path in (folder / group).glob("*.yaml")]
                inner = (folder / group / config_name).glob("*.yaml")
                names += [f"{config_name}/{path.stem}" for path in inner]
                if names:
                    found[group] = sorted(names)
    return found


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what caused it, innermost last."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__


def refuse(command: str, error: ImgdiffError) -> None:
    """End the process: one message, no traceback."""
    sys.stderr.write(f"imgdiff.{command}: {error}\n")
    raise SystemExit(EXIT_REFUSED)
