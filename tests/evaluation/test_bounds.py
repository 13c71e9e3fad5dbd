"""Fields of probes and detectors take no value outside their bounds, however they are written."""

from __future__ import annotations

import pytest

from bench.core import registry, specs
from bench.core.from_specs import from_spec
from bench.core.types import UserError


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("rescaled(temperatures=(0,))", "above 0"),
        ("rescaled(limit=0)", "at least 1"),
        ("match_rate(clusters=(10,0))", "at least 1"),
        ("match_rate(limit=1)", "at least 2"),
        ("plane(limit=1)", "at least 2"),
        ("embedding(negative=-1)", "at least 0"),
        ("embedding(perplexity=0)", "above 0"),
        ("rademacher_surface(reach=0)", "above 0"),
        ("surface(points=0)", "at least 1"),
        ("intrinsic_dimension(k1=2)", "at least 3"),
    ],
)
def test_probes(written: str, said: str) -> None:
    (spec,) = specs.parse_specs(written, "probe")
    with pytest.raises(UserError, match=said):
        from_spec("probe", registry.probes, spec)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("kd(bandwidth=-1)", "at least 0"),
        ("kd(per_class=0)", "at least 1"),
        ("er(bandwidth=-0.1)", "at least 0"),
        ("lid(k=1)", "at least 2"),
    ],
)
def test_detectors(written: str, said: str) -> None:
    (spec,) = specs.parse_specs(written, "detector")
    with pytest.raises(UserError, match=said):
        from_spec("detector", registry.detectors, spec)
