"""Data sets of the Hugging Face hub, where it can be reached or its cache holds them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from imgdiff.core.errors import DataError

PREFIX = "hf:"


def dataset_folder(name: str, files: Sequence[str], remedy: str) -> Path:
    """The local copy of these files (glob patterns) of a hub data set; downloads what is absent.

    DataError, ending with `remedy`, where neither the hub nor its cache has it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(name, repo_type="dataset", allow_patterns=list(files))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise DataError(
            f"{PREFIX}{name}: not in the hub's local cache, and the hub gave: {reason}. {remedy}"
        ) from None
    return Path(found)
