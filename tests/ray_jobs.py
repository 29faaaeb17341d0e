"""What actors do in the tests of the Ray executor; a plain module, so that they can import it."""

import os
import signal
import time
from pathlib import Path

from imgdiff.core.errors import DataError


def squares(folder, shards, report):
    """The squares of some numbers, slowly; leaves a file for each."""
    for shard in shards:
        time.sleep(0.3)
        Path(folder, str(shard)).write_text(str(os.getpid()))
        report(1.0, "square")
    return [shard * shard for shard in shards]


def refuse(shards, report):
    """An error that a person can act on."""
    raise DataError(f"shard {shards[0]}: a broken record")


def die(shards, report):
    """As if memory had run out."""
    report(0.5, "dying")
    time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(folder, shards, report):
    """The first actor at shard 1 is killed half way."""
    mark = Path(folder, "died")
    report(1.0, "first half")
    if 1 in shards and not mark.exists():
        mark.write_text("")
        time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGKILL)
    report(1.0, "second half")
    return shards
