"""House as docs/architecture.md draws it: imports only go down its rooms, and no room or module grows too large."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOUSE = ROOT / "docs" / "architecture.md"
MOST_FILES, MOST_LINES = 12, 350


def drawn_rooms() -> list[str]:
    """Read the dotted names of all rooms, the topmost first, from the drawing in the document."""
    drawing = re.search(r"```\n(jobs/.*?)```", HOUSE.read_text(), re.DOTALL)
    assert drawing
    above, rooms = list[tuple[int, str]](), []
    for line in drawing[1].splitlines():
        if not (found := re.match(r"( *)([a-z_0-9]+)(/|\.py)", line)):
            continue
        indent = len(found[1])
        above = [(depth, name) for depth, name in above if depth < indent]
        rooms.append(".".join([*(name for _, name in above), found[2]]))
        above.append((indent, found[2]))
    return rooms


def modules() -> dict[str, Path]:
    found = {}
    for top in ("gan_models", "jobs", "pipeline"):
        for path in (ROOT / top).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(module: str) -> Iterator[str]:
    """Return the modules of this project that a module imports, anywhere in it."""
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{each.name}" for each in node.names]
            yield from (name if name in MODULES else node.module for name in names if name.split(".")[0] in TOPS)
        elif isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name in MODULES)


TOPS = {"gan_models", "jobs", "pipeline"}


@functools.cache
def parsed(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


@functools.cache
def arrows() -> dict[str, list[str]]:
    """Return what each module imports of this project. Parsing all of them takes seconds, so no import of this does."""
    return {module: sorted(set(imports(module)) - {module}) for module in MODULES}


def room_of(module: str, rooms: list[str]) -> str:
    """Return the innermost drawn room that holds a module."""
    return max((room for room in rooms if f"{module}.".startswith(f"{room}.")), key=len)


def test_no_import_runs_up() -> None:
    """A room's own modules stand above the rooms inside it."""
    rooms = drawn_rooms()
    height = {room: len(rooms) - i for i, room in enumerate(rooms)}
    runs_up = [
        f"{module} -> {other}"
        for module, others in arrows().items()
        for other in others
        if height[room_of(other, rooms)] > height[room_of(module, rooms)]
    ]
    assert runs_up == []


def test_no_import_runs_round() -> None:
    TopologicalSorter(arrows()).prepare()


def test_every_room_is_drawn() -> None:
    there = {".".join(path.parent.relative_to(ROOT).parts) for path in MODULES.values()}
    assert there <= set(drawn_rooms())


def test_no_room_and_no_module_is_too_large() -> None:
    files = Counter(path.parent for path in MODULES.values() if "gan_models" not in path.parts)
    assert {str(folder): count for folder, count in files.items() if count > MOST_FILES and folder.name != "jobs"} == {}
    lines = {str(path): len(path.read_text().splitlines()) for path in MODULES.values()}
    assert {path: count for path, count in lines.items() if count > MOST_LINES} == {}


def test_ray_is_imported_where_the_document_says() -> None:
    found = defaultdict(set)
    for module, path in MODULES.items():
        for node in ast.walk(parsed(module)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [each.name for each in node.names] if isinstance(node, ast.Import) else []
            if any(name.split(".")[0] == "ray" for name in names):
                found[module].add(path)
    text = HOUSE.read_text()
    assert [module for module in found if f"`{module.replace('.', '/')}.py`" not in text] == []


@pytest.mark.parametrize("package", ["gan_models"])
def test_the_networks_know_nothing_of_the_rest(package: str) -> None:
    others = [other for module, found in arrows().items() if module.split(".")[0] == package for other in found]
    assert {other.split(".")[0] for other in others} == {package}


def test_only_processes_that_compute_import_torch() -> None:
    """Each import takes seconds of CPU and some 200 MB in every worker that reads, decodes, encodes or writes."""
    modules = ["pipeline.engine.executors.ray_data", "pipeline.pack.job", "pipeline.augment.job", "pipeline.verify.job"]
    script = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0


JOBS = sorted(path.stem for path in (ROOT / "jobs").glob("*.py") if not path.stem.startswith("_"))


LARGE = {"torch", "ray", "pyarrow", "numpy", "PIL", "pandas", "torchmetrics", "fsspec", "s3fs", "tenacity", "rich"}


@pytest.mark.parametrize("job", JOBS)
def test_help_and_errors_of_the_command_line_wait_for_no_large_library(job: str) -> None:
    script = f"""
import atexit, runpy, sys
atexit.register(lambda: print(*{LARGE} & sys.modules.keys(), file=sys.stderr))
sys.argv[1:] = ["--help"]
runpy.run_module("jobs.{job}", run_name="__main__")
"""
    found = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    allowed = "numpy" if job == "train" else ""  # its options name metrics, whose table has the formulas
    assert found.returncode == 0
    assert found.stderr.strip() == allowed


@pytest.mark.parametrize("job", ["pack", "translate", "augment"])
def test_a_plain_loop_needs_no_ray_and_a_driver_no_torch(job: str) -> None:
    script = f"import sys, pipeline.{job}.job, pipeline.engine.launch; print(*{{'torch', 'ray'}} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (found.returncode, found.stdout.strip()) == (0, "")


def test_every_test_that_holds_a_promise_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", (ROOT / "docs/promises.md").read_text())
    assert len(named) > 30
    files = list((ROOT / "tests").rglob("test_*.py"))
    missing = [
        f"{name}::{test}"
        for name, test in named
        if not any(str(path).endswith(f"/{name}") and f"def {test}(" in path.read_text() for path in files)
    ]
    assert missing == []
