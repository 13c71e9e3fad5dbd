"""The rules of the house: layers, names, sizes."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import ROOT

MAY_IMPORT = {
    "core": set(),
    "ops": {"core"},
    "data": {"core"},
    "store": {"core"},
    "models": {"core", "ops"},
    "attacks": {"core", "ops"},
    "bounds": {"core", "ops"},
    "report": {"core", "store"},
    "evaluation": {"core", "ops", "data", "models", "store", "bounds"},
    "papers": {"core", "store", "report"},
    "plugin": {"core", "ops"},
    "api": {"core", "ops", "data", "models", "bounds", "store", "report", "evaluation"},
    "cli": {"core", "ops", "data", "models", "attacks", "bounds", "store", "report", "evaluation", "papers"},
}
"""What each folder of bench, and each of its two doors, may import besides itself."""
WITHOUT_TORCH = {"core", "store", "report", "papers"}
ROOM_FOR = 25
"""Files that a folder may hold."""
FORBIDDEN = {"utils", "helpers", "helper", "common", "base", "manager", "misc"}
SOURCES = sorted([*(ROOT / "bench").rglob("*.py"), *(ROOT / "defenses").rglob("*.py")])


def _imports(path: Path) -> set[str]:
    """Dotted names that a module imports, outside `if TYPE_CHECKING`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names |= (
                {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "bench" else {node.module}
            )
    return {name for name in names if name}


def _room(path: Path) -> str:
    """The top-level room of a bench module: `tables` for bench/tables/render.py."""
    first = path.relative_to(ROOT / "bench").parts[0]
    return first.removesuffix(".py")


def _rooms_used(path: Path) -> set[str]:
    return {name.split(".")[1] for name in _imports(path) if name.startswith("bench.")}


def _bench_modules() -> list[Path]:
    return [
        path for path in SOURCES if path.is_relative_to(ROOT / "bench") and path.parent != ROOT / "bench" / "builtin"
    ]


@pytest.mark.parametrize("path", _bench_modules(), ids=lambda path: str(path.relative_to(ROOT)))
class TestEveryModule:
    def test_imports_only_what_its_folder_may(self, path):
        room = _room(path)
        if room == "__init__":
            return
        assert room in MAY_IMPORT, f"say what {room} may import"
        assert not _rooms_used(path) - MAY_IMPORT[room] - {room}

    def test_never_imports_defenses_the_root_or_torchvision(self, path):
        names = _imports(path)
        assert not any(name.partition(".")[0] in ("defenses", "torchvision") for name in names)
        assert "bench" not in names

    def test_files_of_runs_and_their_views_do_not_import_torch(self, path):
        if _room(path) in WITHOUT_TORCH:
            assert not any(name.partition(".")[0] == "torch" for name in _imports(path))

    def test_init_files_export_nothing(self, path):
        if path.name == "__init__.py" and path.parent != ROOT / "bench":
            body = ast.parse(path.read_text(encoding="utf-8")).body
            assert all(isinstance(node, ast.Expr) for node in body)


def test_no_import_goes_round():
    """Folders that a folder may import may not import it, at any distance."""
    reach = {room: set(below) for room, below in MAY_IMPORT.items()}
    for _ in reach:
        reach = {room: below.union(*(reach[other] for other in below)) for room, below in reach.items()}
    assert not [room for room, below in reach.items() if room in below]


@pytest.mark.parametrize(
    "folder", sorted({path.parent for path in SOURCES}), ids=lambda path: str(path.relative_to(ROOT))
)
def test_a_folder_can_be_taken_in_at_a_glance(folder):
    assert len(list(folder.glob("*.py"))) <= ROOM_FOR


@pytest.mark.parametrize(
    "path", sorted((ROOT / "defenses").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_defenses_stand_on_the_lower_layers(path):
    assert _rooms_used(path) <= {"core", "ops", "data", "models"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_are_small_and_say_what_they_are(path):
    assert path.stem not in FORBIDDEN
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 260


def test_files_of_runs_and_their_views_run_without_torch():
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in _bench_modules()
        if _room(path) in WITHOUT_TORCH
    ]
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-400:]
