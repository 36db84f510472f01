"""This file lists every number of training, with its default and its bounds.

A configuration is read from a mapping as a TOML file gives it; an unknown key, a wrong
type or a value out of bounds is refused with its place. All problems are reported.
"""

from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from typing import Any

from ..cnf.vector_field import FieldConfig
from ..model.layout import Layout

__all__ = [
    "MOST_NUISANCES",
    "OBJECTIVES",
    "ConfigurationError",
    "TrainingConfig",
    "nuisance_counts",
    "training_config_from",
]

OBJECTIVES = ("symmetric", "forward", "reverse")
"""What can be minimised."""

MOST_NUISANCES = 1000
"""Nuisance columns of a latent at most."""

_DEFAULT_AUGMENT = 2
_GRADIENTS = ("path", "total")


class ConfigurationError(ValueError):
    """A configuration with problems.

    Args:
        problems: sentences of the form ``where: what; expected ...; got ...``.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _number(default: float, low: float, high: float = float("inf")) -> Any:
    return field(default=default, metadata={"low": low, "high": high})


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """All numbers of training.

    Args:
        flow: shape of the vector field.
        augment: nuisance columns per latent: a number, or a table of numbers by name of
            a latent, with `default` for the others; see `nuisance_counts`.
        objective: symmetric, forward or reverse.
        gradient: path or total, of the symmetric objective (see `losses.py`); the total
            one is taken where the divergence is noisy.
        budget_seconds: seconds of work; 0 means no limit.
        max_iterations: iterations; 0 means no limit.
        batch_size: rows per direction.
        final_batch_size: rows per direction at the end.
        final_batch_fraction: share of the main phase that uses the final batch size.
        learning_rate: Adam's rate at the start of the main phase.
        final_learning_rate: and at its end; between them half a cosine.
        gradient_clip: largest norm of a gradient.
        average: decay per iteration of the weight average.
        warm_start_fraction: share of the budget spent on flow matching.
        warm_start_seconds: most seconds spent on it.
        warm_start_batch_size: rows per iteration there.
        warm_start_learning_rate: Adam's rate there.
        num_steps: Runge-Kutta steps of the training solve at first.
        max_num_steps: most steps that training may raise this to.
        bias_tolerance: nats between N and 2N steps, in the bulk of rows, that raise N.
        normalisation_draws: joint draws that fit the normalisation.
        report_every: iterations between reports.
        num_certifications: certified estimates of J over the main phase.
        certify_draws: joint draws of each of them.
        tolerance: solver tolerance of certified estimates.
        converged_nats: training ends when certified J is below this.
        patience_seconds: seconds of work without a better certified J that end
            training; 0 means never.
    """

    flow: FieldConfig = field(default_factory=FieldConfig)
    augment: int | Mapping[str, int] = _number(_DEFAULT_AUGMENT, 0, MOST_NUISANCES)
    objective: str = "symmetric"
    gradient: str = "path"
    budget_seconds: float = _number(240.0, 0, 1e8)
    max_iterations: int = _number(0, 0, 1_000_000_000)
    batch_size: int = _number(128, 1, 1_000_000)
    final_batch_size: int = _number(256, 1, 1_000_000)
    final_batch_fraction: float = _number(0.3, 0, 1)
    learning_rate: float = _number(1e-2, 0, 10)
    final_learning_rate: float = _number(1e-4, 0, 10)
    gradient_clip: float = _number(10.0, 0, 1e9)
    average: float = _number(0.998, 0, 1)
    warm_start_fraction: float = _number(0.1, 0, 1)
    warm_start_seconds: float = _number(30.0, 0, 1e8)
    warm_start_batch_size: int = _number(512, 1, 1_000_000)
    warm_start_learning_rate: float = _number(1e-2, 0, 10)
    num_steps: int = _number(4, 1, 1000)
    max_num_steps: int = _number(30, 1, 1000)
    bias_tolerance: float = _number(1e-2, 0, 1e3)
    normalisation_draws: int = _number(40_000, 2, 10_000_000)
    report_every: int = _number(25, 1, 1_000_000)
    num_certifications: int = _number(4, 1, 10_000)
    certify_draws: int = _number(600, 2, 10_000_000)
    tolerance: float = _number(1e-6, 1e-12, 1e-2)
    converged_nats: float = _number(5e-3, 0, 1e6)
    patience_seconds: float = _number(0.0, 0, 1e8)

    def as_mapping(self) -> dict[str, Any]:
        """Plain values, as `training_config_from` reads them."""
        return asdict(self)


def training_config_from(mapping: Mapping[str, Any], where: str) -> TrainingConfig:
    """The checked configuration of a mapping.

    Args:
        mapping: keys of `TrainingConfig`; ``flow`` is a table of `FieldConfig`.
        where: what the mapping was read from, for messages.

    Raises:
        ConfigurationError: with one sentence per problem.
    """
    problems: list[str] = []
    table = mapping.get("flow", {})
    top = {key: value for key, value in mapping.items() if key != "flow"}
    values = _checked(TrainingConfig, _without_augment(top), where, problems)
    if isinstance(top.get("augment"), Mapping):
        values["augment"] = _checked_augment(top["augment"], where, problems)
    if isinstance(table, Mapping):
        flow = _checked(FieldConfig, table, f"{where}, flow", problems)
    else:
        flow = {}
        problems.append(f"{where}, flow: not a table; expected a table; got {table!r}")
    for key, known in (("objective", OBJECTIVES), ("gradient", _GRADIENTS)):
        if values.get(key, known[0]) not in known:
            problems.append(
                f"{where}, {key}: unknown {key}; expected one of "
                f"{', '.join(known)}; got {values[key]!r}"
            )
    if problems:
        raise ConfigurationError(*problems)
    config = TrainingConfig(flow=FieldConfig(**flow), **values)
    if config.num_steps > config.max_num_steps:
        raise ConfigurationError(
            f"{where}, num_steps: more steps than are allowed; expected at most "
            f"max_num_steps = {config.max_num_steps}; got {config.num_steps}"
        )
    if config.budget_seconds == 0 and config.max_iterations == 0:
        raise ConfigurationError(
            f"{where}: no end; expected budget_seconds or max_iterations above 0; got "
            "neither"
        )
    return config


def nuisance_counts(augment: int | Mapping[str, int], layout: Layout) -> dict[str, int]:
    """Nuisance columns by the document's name of each latent.

    Args:
        augment: `TrainingConfig.augment`. A table names a latent as the program or the
            document does, or several by their common name.
        layout: of the model.

    Raises:
        ConfigurationError: if a name is of no latent, or two entries name the same one.
    """
    if isinstance(augment, int):
        return {v.name: augment for v in layout.latents}
    chosen: dict[str, int] = {}
    problems: list[str] = []
    for key, count in augment.items():
        if key == "default":
            continue
        found = [v.name for v in layout.latents_named(key)]
        if not found:
            known = ", ".join(v.label for v in layout.latents[:6])
            problems.append(
                f"augment, {key}: no latent of this name; expected default or one of "
                f"{known}; got {key!r}"
            )
        problems.extend(
            f"augment, {key}: this latent has two entries; expected one; got {name}"
            for name in found
            if name in chosen
        )
        chosen.update(dict.fromkeys(found, count))
    if problems:
        raise ConfigurationError(*problems)
    default = augment.get("default", _DEFAULT_AUGMENT)
    return {v.name: chosen.get(v.name, default) for v in layout.latents}


def _without_augment(table: Mapping[str, Any]) -> dict[str, Any]:
    """The entries but a table of nuisances, which is checked on its own."""
    return {
        key: value
        for key, value in table.items()
        if key != "augment" or not isinstance(value, Mapping)
    }


def _checked_augment(
    table: Mapping[str, Any], where: str, problems: list[str]
) -> dict[str, int]:
    (known,) = (f for f in fields(TrainingConfig) if f.name == "augment")
    values = {"default": _DEFAULT_AUGMENT}
    for key, value in table.items():
        problem = _problem(known, value)
        if problem:
            problems.append(f"{where}, augment, {key}: {problem}; got {value!r}")
        else:
            values[key] = value
    return values


_FLOW_BOUNDS = {"layers": (2, 64), "hidden": (0, 1024), "last_layer_scale": (0, 1e6)}


def _checked(
    kind: type[TrainingConfig] | type[FieldConfig],
    table: Mapping[str, Any],
    where: str,
    problems: list[str],
) -> dict[str, Any]:
    known = {f.name: f for f in fields(kind) if f.name != "flow"}
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            problems.append(
                f"{where}, {key}: unknown key; expected one of "
                f"{', '.join(sorted(known))}; got {key!r}"
            )
            continue
        problem = _problem(known[key], value)
        if problem:
            problems.append(f"{where}, {key}: {problem}; got {value!r}")
            continue
        default = known[key].default
        values[key] = float(value) if isinstance(default, float) else value
    return values


def _problem(known: Field[Any], value: Any) -> str:
    """What is wrong with a value, or nothing."""
    default = known.default
    if default is MISSING:
        raise AssertionError(f"field {known.name} has no plain default")
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "wrong type; expected true or false"
    if isinstance(default, str):
        return "" if isinstance(value, str) else "wrong type; expected text"
    allowed = (int, float) if isinstance(default, float) else (int,)
    if isinstance(value, bool) or not isinstance(value, allowed):
        name = "a number" if isinstance(default, float) else "a whole number"
        return f"wrong type; expected {name}"
    low, high = _FLOW_BOUNDS.get(known.name, (None, None))
    low = known.metadata.get("low", low)
    high = known.metadata.get("high", high)
    if low is not None and high is not None and not low <= value <= high:
        return f"out of bounds; expected {low} <= value <= {high}"
    return ""
