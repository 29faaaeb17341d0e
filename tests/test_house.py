"""The rules of the house that a linter cannot state, measured on the source itself."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60  # without the docstring
MAX_ENTRY_LINES = 30
TEXT_SUFFIXES = {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".json", ".cfg", ".sh", ""}
HEAVY = {"torch", "torchvision", "transformers", "diffusers", "lightning", "ultralytics", "peft"}
# The one third party whose licence reaches its callers (see NOTICE).
ULTRALYTICS_DOORS = {"imgdiff/backends/fastsam.py", "imgdiff/mini/build/fastsam.py"}
MACHINE_PATH = re.compile(r"(?<![\w.~$}])/(?:home|root|Users|work|mnt|data\d*)/\w|[A-Z]:\\Users")


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (REPO / folder).rglob("*.py"))


def name(path: Path) -> str:
    return path.relative_to(REPO).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=name(path))


def functions(module: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(module):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = function.body[0]
    documented = ast.get_docstring(function) is not None
    docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def undocumented(module: ast.Module) -> list[str]:
    """Public functions, classes and methods without a docstring; and the module itself."""
    found = [] if ast.get_docstring(module) else ["module"]
    for node in module.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            found += [] if ast.get_docstring(node) else [node.name]
    return found


def broad_excepts(module: ast.Module, lines: list[str]) -> list[int]:
    """Lines of handlers that swallow everything; a reason after `noqa: BLE001` allows one."""
    broad = {None, "Exception", "BaseException"}
    return [
        node.lineno
        for node in ast.walk(module)
        if isinstance(node, ast.ExceptHandler)
        and (ast.unparse(node.type) if node.type else None) in broad
        and not re.search(r"noqa: BLE001\W+\w{3}", lines[node.lineno - 1])
    ]


def prints(module: ast.Module) -> list[int]:
    calls = (node for node in ast.walk(module) if isinstance(node, ast.Call))
    return [call.lineno for call in calls if ast.unparse(call.func) == "print"]


def asserts(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a test states an expectation: assert, pytest.raises, or a helper that says so."""
    says = re.compile(r"pytest\.(raises|warns|fail)|(^|[._])(assert|expect|check)")
    return any(
        isinstance(node, ast.Assert)
        or (isinstance(node, ast.Call) and says.search(ast.unparse(node.func)))
        for node in ast.walk(function)
    )


def imported(module: ast.Module) -> set[str]:
    """Top-level names of everything imported anywhere in the module."""
    found: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def test_modules_and_what_they_offer_are_documented() -> None:
    found = {name(path): undocumented(tree(path)) for path in sources("imgdiff", "scripts")}
    assert {path: names for path, names in found.items() if names} == {}


def test_files_and_functions_stay_small() -> None:
    paths = sources("imgdiff", "scripts", "tests", "benchmarks")
    lengths = {name(path): len(path.read_text("utf-8").splitlines()) for path in paths}
    assert {path: n for path, n in lengths.items() if n > MAX_FILE_LINES} == {}
    sizes = {
        f"{name(path)}:{function.name}": code_lines(function)
        for path in sources("imgdiff", "scripts")
        for function in functions(tree(path))
    }
    assert {place: n for place, n in sizes.items() if n > MAX_FUNCTION_LINES} == {}


def test_nothing_swallows_every_error() -> None:
    found = {
        name(path): broad_excepts(tree(path), path.read_text("utf-8").splitlines())
        for path in sources("imgdiff", "scripts", "benchmarks")
    }
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_the_library_does_not_print() -> None:
    found = {name(path): prints(tree(path)) for path in sources("imgdiff")}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_every_test_asserts_something() -> None:
    silent = [
        f"{name(path)}:{function.name}"
        for path in sources("tests")
        for function in functions(tree(path))
        if function.name.startswith("test_") and not asserts(function)
    ]
    assert silent == []


def test_entry_points_are_short() -> None:
    entries = sorted((REPO / "imgdiff").glob("*/__main__.py"))  # the rooms
    lengths = {name(path): len(path.read_text("utf-8").splitlines()) for path in entries}
    assert {path: n for path, n in lengths.items() if n > MAX_ENTRY_LINES} == {}


def test_ultralytics_has_two_doors_only() -> None:
    users = {name(path) for path in sources("imgdiff") if "ultralytics" in imported(tree(path))}
    assert users <= ULTRALYTICS_DOORS


def test_no_file_names_a_place_of_one_machine() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = [REPO / line for line in listed.stdout.splitlines()]
    texts = [path for path in paths if path.suffix in TEXT_SUFFIXES and path.is_file()]
    hits = [
        f"{name(path)}:{number}"
        for path in texts
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert hits == []


def config_modules() -> list[str]:
    places = [*(REPO / "imgdiff").glob("*/config.py"), *(REPO / "imgdiff").glob("*/configs.py")]
    return [name(path)[: -len(".py")].replace("/", ".") for path in sorted(places)]


@pytest.mark.parametrize("module", ["imgdiff.launch", "imgdiff.core.images", *config_modules()])
def test_light_modules_import_nothing_heavy(module: str) -> None:
    """`--help` is quick because composing a config loads no deep-learning library."""
    code = f"import sys, {module}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [], "")


def test_constraints_are_plain_pins() -> None:
    lines = (REPO / "constraints.txt").read_text("utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    plain = re.compile(r'[a-z0-9-]+==[\w.]+( ; python_version (<|>=) "3\.\d+")?')
    assert [pin for pin in pins if not plain.fullmatch(pin)] == []
    assert {"torch==2.14.1", "torchvision==0.29.2"} <= set(pins)
    names = [pin.split("==")[0] for pin in pins]
    assert names == sorted(names)
    assert not {"opencv-python-headless", "opencv-contrib-python"} & set(names)


BAD = """
def public():
    try:
        print("x")
    except Exception:
        pass

def test_nothing():
    public()
"""


def test_the_measures_see_what_they_are_for() -> None:
    bad = ast.parse(BAD)
    assert undocumented(bad) == ["module", "public", "test_nothing"]
    assert broad_excepts(bad, BAD.splitlines()) == [5]
    assert broad_excepts(bad, BAD.replace("n:", "n:  # noqa: BLE001 - why").splitlines()) == []
    assert prints(bad) == [4]
    assert [asserts(function) for function in functions(bad)] == [False, False]
    assert [code_lines(function) for function in functions(bad)] == [5, 2]
    assert imported(ast.parse("import a.b\nfrom c.d import e\nfrom . import f")) == {"a", "c"}
    assert MACHINE_PATH.search("open('" + "/" + "home/someone/x')")
    assert not MACHINE_PATH.search("${paths.root}" + "/work" + "/a or https://host/data/x")
