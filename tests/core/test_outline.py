"""What is read from source is what importing would say."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from bench.core import registry
from bench.core.fields import settable
from bench.core.outline import outlines

KINDS = ("attacks", "probes", "detectors", "tables", "figures", "pages", "defenses")


@pytest.mark.parametrize("kind", KINDS)
def test_every_entry_is_read_with_its_summary(kind: str) -> None:
    known = getattr(registry, kind)
    said = {name: (inspect.getdoc(thing) or "").partition("\n")[0] for name, thing in known.items()}
    assert {outline.name: outline.summary for outline in outlines(kind, known.package)} == said


def test_attacks_are_read_with_their_fields_and_norms() -> None:
    for outline in outlines("attacks", registry.attacks.package):
        kind = registry.attacks[outline.name]
        assert outline.fields == {name: kind.__dataclass_fields__[name].default for name in settable(kind)}
        assert outline.attributes["norms"] == kind.norms and outline.attributes["minimal"] == kind.minimal
        assert outline.attributes.get("adaptive", False) == getattr(kind, "adaptive", False)


@pytest.mark.parametrize(
    "words",
    [["--help"], ["--version"], ["run", "--help"], *(["list", kind] for kind in (*KINDS, "models", "data"))],
    ids=" ".join,
)
def test_help_and_lists_import_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys\nfrom bench.cli.main import main\n"
        f"try:\n    main.main({words!r}, standalone_mode=False)\nfinally:\n"
        "    heavy = {'torch', 'pandas', 'scipy', 'matplotlib', 'sklearn'} & set(sys.modules)\n"
        "    sys.exit(' '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-400:]
