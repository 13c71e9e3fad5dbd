"""`--attacks` to attacks: names resolved, fields checked, needs and norms settled before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.core import registry
from bench.core.fields import recorded, settable
from bench.core.from_specs import attack_from
from bench.core.specs import Spec, parse_specs
from bench.core.types import Attack, Classifier, Norm, ThreatModel, UserError

ADAPTIVE, MINIMAL = "adaptive", "minimal"

_COMPLEMENTARY: Mapping[Norm, str] = {
    "linf": "fmn(steps=1000),fab_t(steps=50,restarts=2,refine=10)",
    "l2": "alma,pdgd,fab_t(steps=50,restarts=2,refine=10)",
    "l1": "pdpgd,fab_t(steps=50,restarts=2,refine=10)",
}
"""What `minimal` stands for in each norm: few attacks that fail on different images, a thousand steps or so each.

Chosen by `benchmarks/strength.py` in linf and l2: on average within 0.3 and 1.5 % of the best find of any attack there.
"""


@dataclass(frozen=True)
class Planned:
    """An attack that will run: its name as tables show it, the object, and the norm it works in."""

    label: str
    name: str
    attack: Attack
    norm: Norm

    @property
    def fields(self) -> dict[str, Any]:
        """Every field with its value, as `run.json` records it."""
        return {field: getattr(self.attack, field) for field in recorded(type(self.attack))}

    @property
    def stages(self) -> list[Planned]:
        """The attacks that an ensemble runs in turn, each on what those before it left; none for a plain attack."""
        known = getattr(self.attack, "stages", None)
        pairs = known(self.norm) if known else ()
        return [Planned(f"{self.label}/{name}", name, attack, self.norm) for name, attack in pairs]

    @property
    def labels(self) -> list[str]:
        """The attacks that its rows name: its stages, then itself."""
        return [*(stage.label for stage in self.stages), self.label]

    @property
    def is_adaptive(self) -> bool:
        """Whether `adaptive` includes it."""
        return bool(getattr(self.attack, "adaptive", False))


def missing_needs(attack: Any, model: Classifier) -> list[str]:
    """The methods that the attack needs and the model lacks."""
    return [need for need in attack.needs if not callable(getattr(model, need, None))]


def _norm(label: str, attack: Attack, threat: ThreatModel) -> Norm:
    if threat.norm in attack.norms:
        return threat.norm
    if attack.minimal:
        return attack.norms[0]
    raise UserError(f"attack {label!r} does not work in {threat.norm}: it knows {', '.join(attack.norms)}")


def _adaptive(threat: ThreatModel, trained_with: Mapping[str, Any]) -> dict[str, Any]:
    """Every adaptive attack of a norm; one with `adaptive_to` only where `trained_with` has one of these names."""
    return {
        name: kind
        for name, kind in registry.attacks.items()
        if getattr(kind, "adaptive", False) and threat.norm in kind.norms
        if not hasattr(kind, "adaptive_to") or set(kind.adaptive_to) & set(trained_with)
    }


def adaptive_missing(
    written: str, model: Classifier, threat: ThreatModel, trained_with: Mapping[str, Any]
) -> dict[str, str]:
    """The attacks that `adaptive` in a list would stand for if the model had what they need; why not, by name."""
    if not any(spec.name == ADAPTIVE for spec in parse_specs(written)):
        return {}
    lacking = {name: missing_needs(kind, model) for name, kind in _adaptive(threat, trained_with).items()}
    return {name: f"the model has no {', '.join(needs)}" for name, needs in lacking.items() if needs}


def _members(preset: Spec, model: Classifier, threat: ThreatModel, trained_with: Mapping[str, Any]) -> list[Spec]:
    """The attacks that a preset stands for; a field set on it is set on those of them that have it."""
    if preset.name == MINIMAL and "attack" in dict(preset.fields):
        return [Spec("bisection", preset.fields)]
    adaptive = preset.name == ADAPTIVE
    fit = [Spec(name) for name, kind in _adaptive(threat, trained_with).items() if not missing_needs(kind, model)]
    members = fit if adaptive else parse_specs(_COMPLEMENTARY[threat.norm])
    known = {member.name: settable(registry.attacks[member.name]) for member in members}
    for field, _ in preset.fields:
        if not any(field in fields_ for fields_ in known.values()):
            raise UserError(f"no attack of {preset.name!r} has a field {field!r}: bench list attacks shows theirs")
    result = []
    for member in members:
        own = {field: value for field, value in preset.fields if field in known[member.name]}
        result.append(Spec(member.name, tuple({**dict(member.fields), **own}.items())))
    return result


def _expanded(specs: list[Spec], model: Classifier, threat: ThreatModel, trained_with: Mapping[str, Any]) -> list[Spec]:
    """Specs with the presets replaced by their members, each named once."""
    presets = (ADAPTIVE, MINIMAL)
    groups = [_members(spec, model, threat, trained_with) if spec.name in presets else [spec] for spec in specs]
    return list(dict.fromkeys(spec for group in groups for spec in group))


def plan(
    written: str, model: Classifier, threat: ThreatModel, trained_with: Mapping[str, Mapping[str, Any]] | None = None
) -> list[Planned]:
    """Resolve an attack list for a model and a threat model, in the order written.

    Raises:
        UserError: a name, field or value is wrong, a need is not met, the norm is not known to a budgeted attack, or a
            budgeted attack has no eps.
    """
    planned = []
    for spec in _expanded(parse_specs(written), model, threat, trained_with or {}):
        attack = attack_from(spec, trained_with or {})
        lacking = missing_needs(attack, model)
        if lacking:
            raise UserError(f"attack {str(spec)!r} needs the model to have {', '.join(lacking)}: this model has not")
        if threat.eps is None and not attack.minimal:
            raise UserError(f"attack {str(spec)!r} needs a budget: give --eps")
        planned.append(Planned(str(spec), spec.name, attack, _norm(str(spec), attack, threat)))
    return planned
