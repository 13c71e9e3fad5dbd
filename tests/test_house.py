"""The rules of the house: layers, names, sizes."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = {
    0: {"types", "registry", "specs"},
    1: {
        "norms",
        "noise",
        "losses",
        "labels",
        "latent_losses",
        "passes",
        "active",
        "ascent",
        "boundary",
        "cacheful",
        "files",
        "levels",
    },
    2: {"models", "data", "attacks"},
    3: {
        "checkpoints",
        "judge",
        "checks",
        "capacity",
        "layout",
        "making",
        "plan",
        "sheets",
        "standin",
        "trials",
        "probes",
        "detectors",
    },
    4: {"store", "writing", "adversarial", "provenance", "probed"},
    5: {"measures", "limits", "detections", "rejection"},
    6: {"audit", "dossiers", "tables", "figures", "pages", "regress", "publish"},
    7: {"request", "run", "probing", "suspects", "detecting"},
    8: {"session", "gate", "api", "progress"},
    9: {"cli", "commands"},
}
LEVEL = {name: level for level, names in LAYERS.items() for name in names}
SHELVES = LAYERS[2]
VIEWS = LAYERS[4] | LAYERS[5] | LAYERS[6]
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
    def test_stands_on_a_layer_and_imports_no_higher_one(self, path):
        room = _room(path)
        if room == "__init__":
            return
        assert room in LEVEL, f"give {room} a layer"
        higher = {used for used in _rooms_used(path) if LEVEL[used] > LEVEL[room]}
        assert not higher, f"{room} (layer {LEVEL[room]}) imports {higher}"

    def test_shelves_do_not_import_each_other(self, path):
        if _room(path) in SHELVES:
            assert not (_rooms_used(path) & SHELVES) - {_room(path)}

    def test_never_imports_defenses_the_root_or_torchvision(self, path):
        names = _imports(path)
        assert not any(name.partition(".")[0] in ("defenses", "torchvision") for name in names)
        assert "bench" not in names

    def test_views_do_not_import_torch(self, path):
        if _room(path) in VIEWS:
            assert not any(name.partition(".")[0] == "torch" for name in _imports(path))

    def test_init_files_export_nothing(self, path):
        if path.name == "__init__.py" and path.parent != ROOT / "bench":
            body = ast.parse(path.read_text(encoding="utf-8")).body
            assert all(isinstance(node, ast.Expr) for node in body)


@pytest.mark.parametrize("path", sorted((ROOT / "defenses").glob("*.py")), ids=lambda path: path.name)
def test_defenses_stand_on_the_lower_layers(path):
    used = {name.split(".")[1] for name in _imports(path) if name.startswith("bench.")}
    assert all(LEVEL[name] <= 2 for name in used), used


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_are_small_and_say_what_they_are(path):
    assert path.stem not in FORBIDDEN
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 260


def test_views_and_words_run_without_torch():
    rooms = sorted((VIEWS | LAYERS[0]) - {"tables", "figures", "pages"})
    names = ("tables.run_table", "tables.mat", "figures.mat", "pages.mat", "tables.bilateral", "pages.bilateral")
    shelves = [f"bench.{shelf}" for shelf in names]
    modules = [f"bench.{room}" for room in rooms] + shelves
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-400:]
