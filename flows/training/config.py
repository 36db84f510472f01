"""This file lists every number of training, with its default and its bounds.

A configuration is read from a mapping as a TOML file gives it; an unknown key, a wrong
type or a value out of bounds is refused with its place. All problems are reported. A
kind of flow has defaults of its own for some.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from daphne_bridge.errors import shortened

from ..errors import ArgumentError, Problem
from ..flow.kinds import kind_of, kinds_with
from ..flow.settings import UNKNOWN, bounded, choice, problem_of, read_settings
from ..model.layout import Layout

__all__ = [
    "CHOSEN",
    "INTEGRATE",
    "MOST_NUISANCES",
    "OBJECTIVES",
    "TrainingConfig",
    "nuisance_counts",
    "training_config_from",
]

CHOSEN = "auto"
"""In place of a number of nuisances: as many for each latent as it is found to need."""

INTEGRATE = ("auto", "none")
"""Which latents need no network."""

HEADS = ("auto", "all")
"""Which discrete latents have a learned head."""

OBJECTIVES = ("symmetric", "forward", "reverse", "free-energy")
"""What can be minimised."""

MOST_NUISANCES = 1000
"""Nuisance columns of a latent at most."""

_UNNAMED_AUGMENT = 2
"""Nuisance columns of a latent that a table of them does not name."""
_OF_ONE_DATA_SET = ("free-energy", "reverse")


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """All numbers of training.

    Args:
        kind: of flow (`flow.kinds.KINDS`).
        flow: shape of the flow, a value of the kind's config; its defaults if None.
        augment: nuisance columns per latent: a number, or a table of numbers by name of
            a latent, with `default` for the others; see `nuisance_counts`. auto: as a
            short training finds that they are needed (`front.nuisances`).
        integrate: auto: latents whose conditional given the others is made of known
            factors are integrated out where that pays; none: all are the flow's.
        heads: auto: discrete latents that are too wide to be summed out have a learned
            head; all: every one has.
        objective: symmetric, forward, reverse, or free-energy, the annealed reverse.
        amortised: whether the flow is of all data sets; else of the document's alone,
            and only reverse or free-energy, the default then, can be minimised.
        annealing_iterations: iterations until the free energy is that of the target
            itself.
        annealing_fraction: share of the budget until then, if that comes first.
        gradient: path or total, of the symmetric objective (see `losses.py`); the total
            one is taken where the divergence is noisy. A flow that is drawn from
            quickly follows contrasts in place of the path.
        contrast_draws: draws of the flow per row, where contrasts are followed.
        budget_seconds: seconds of work by the wall clock; 0 means no limit.
        max_iterations: iterations; 0 means no limit.
        batch_size: rows per direction.
        final_batch_size: rows per direction at the end.
        final_batch_fraction: share of the main phase that uses the final batch size.
        learning_rate: Adam's rate at the start of the main phase.
        final_learning_rate: and at its end; between them half a cosine.
        gradient_clip: largest norm of a gradient.
        average: decay per iteration of the weight average.
        warm_start_fraction: share of the budget spent on the warm start.
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

    kind: str = "cnf"
    flow: Any = None
    augment: int | str | Mapping[str, int] = bounded(0, 0, MOST_NUISANCES)
    integrate: str = choice(*INTEGRATE)
    heads: str = choice(*HEADS)
    objective: str = choice(*OBJECTIVES)
    amortised: bool = True
    annealing_iterations: int = bounded(10_000, 1, 1_000_000_000)
    annealing_fraction: float = bounded(0.5, 0.001, 1)
    gradient: str = choice("path", "total")
    contrast_draws: int = bounded(4, 2, 1000)
    budget_seconds: float = bounded(240.0, 0, 1e8)
    max_iterations: int = bounded(0, 0, 1_000_000_000)
    batch_size: int = bounded(128, 1, 1_000_000)
    final_batch_size: int = bounded(256, 1, 1_000_000)
    final_batch_fraction: float = bounded(0.3, 0, 1)
    learning_rate: float = bounded(1e-2, 0, 10)
    final_learning_rate: float = bounded(1e-4, 0, 10)
    gradient_clip: float = bounded(10.0, 0, 1e9)
    average: float = bounded(0.998, 0, 1)
    warm_start_fraction: float = bounded(0.1, 0, 1)
    warm_start_seconds: float = bounded(30.0, 0, 1e8)
    warm_start_batch_size: int = bounded(512, 1, 1_000_000)
    warm_start_learning_rate: float = bounded(1e-2, 0, 10)
    num_steps: int = bounded(4, 1, 1000)
    max_num_steps: int = bounded(30, 1, 1000)
    bias_tolerance: float = bounded(1e-2, 0, 1e3)
    normalisation_draws: int = bounded(40_000, 2, 10_000_000)
    report_every: int = bounded(25, 1, 1_000_000)
    num_certifications: int = bounded(4, 1, 10_000)
    certify_draws: int = bounded(600, 2, 10_000_000)
    tolerance: float = bounded(1e-6, 1e-12, 1e-2)
    converged_nats: float = bounded(5e-3, 0, 1e6)
    patience_seconds: float = bounded(0.0, 0, 1e8)

    def __post_init__(self) -> None:
        if self.flow is None:
            object.__setattr__(self, "flow", kind_of(self.kind).config())

    def as_mapping(self) -> dict[str, Any]:
        """Plain values, as `training_config_from` reads them."""
        return asdict(self)


def training_config_from(mapping: Mapping[str, Any], where: str) -> TrainingConfig:
    """The checked configuration of a mapping.

    Args:
        mapping: keys of `TrainingConfig`; ``flow`` is a table of the kind's config.
        where: what the mapping was read from, for messages.

    Raises:
        ArgumentError: with all problems.

    Example:
        >>> training_config_from({"batch_size": 64}, "a mapping").batch_size
        64
    """
    top = {key: value for key, value in mapping.items() if key != "flow"}
    augment = top.get("augment")
    if isinstance(augment, str | Mapping):
        del top["augment"]
    values, problems = read_settings(TrainingConfig, top, where, apart=("flow",))
    if isinstance(augment, Mapping):
        values["augment"] = _checked_augment(augment, where, problems)
    elif augment == CHOSEN:
        values["augment"] = augment
    elif isinstance(augment, str):
        expected = f"a whole number, a table of them by name, or {CHOSEN}"
        problems.append(
            Problem(
                f"{where}, augment",
                "unknown word",
                expected,
                shortened(repr(augment)),
            )
        )
    try:
        kind = kind_of(values.get("kind", "cnf"))
    except ArgumentError as error:
        problems.extend(replace(p, where=f"{where}, kind") for p in error.problems)
        raise ArgumentError(*problems) from None
    table = mapping.get("flow", {})
    if isinstance(table, Mapping):
        place = f"{where}, flow of {kind.name}"
        flow, more = read_settings(kind.config, table, place)
        problems.extend(_with_kinds(each, place) for each in more)
    else:
        problems.append(
            Problem(f"{where}, flow", "not a table", "a table", shortened(repr(table)))
        )
    if problems:
        raise ArgumentError(*problems)
    if values.get("amortised") is False:
        values.setdefault("objective", _OF_ONE_DATA_SET[0])
    values = {**kind.training, **values}
    config = TrainingConfig(flow=kind.config(**flow), **values)
    if not config.amortised and config.objective not in _OF_ONE_DATA_SET:
        problems.append(
            Problem(
                f"{where}, objective",
                "the posterior of one data set has no draws to compare with",
                f"{' or '.join(_OF_ONE_DATA_SET)}, or amortised = true",
                config.objective,
            )
        )
    if config.augment == CHOSEN and not (config.kind == "cnf" and config.amortised):
        problems.append(
            Problem(
                f"{where}, augment",
                f"{CHOSEN} is for flows of kind cnf that serve all data sets",
                "a whole number, or a table of them by name",
                f"{CHOSEN}, kind {config.kind}, amortised {config.amortised}".lower(),
            )
        )
    if config.num_steps > config.max_num_steps:
        problems.append(
            Problem(
                f"{where}, num_steps",
                "more steps than are allowed",
                f"at most max_num_steps = {config.max_num_steps}",
                f"{config.num_steps}",
            )
        )
    if config.budget_seconds == 0 and config.max_iterations == 0:
        expected = "budget_seconds or max_iterations above 0"
        problems.append(Problem(where, "no end", expected, "neither"))
    if problems:
        raise ArgumentError(*problems)
    return config


def nuisance_counts(
    augment: int | str | Mapping[str, int], layout: Layout
) -> dict[str, int]:
    """Nuisance columns by the document's name of each latent.

    Args:
        augment: `TrainingConfig.augment`. A table names a latent as the program or the
            document does, or several by their common name.
        layout: of the model.

    Raises:
        ArgumentError: if a name is of no latent, or two entries name the same one, or
            they are still to be chosen.
    """
    if isinstance(augment, int):
        return {v.name: augment for v in layout.latents}
    if isinstance(augment, str):
        raise ArgumentError.at(
            "augment",
            f"{CHOSEN} is for training a flow that serves all data sets",
            "a whole number, or a table of them by name",
            augment,
        )
    chosen: dict[str, int] = {}
    problems: list[Problem] = []
    for key, count in augment.items():
        if key == "default":
            continue
        place = f"augment, {shortened(key)}"
        found = [v.name for v in layout.latents_named(key)]
        if not found:
            known = ", ".join(v.label for v in layout.latents[:6])
            expected = f"default or one of {known}"
            problems.append(
                Problem(place, "no latent of this name", expected, shortened(repr(key)))
            )
        problems.extend(
            Problem(place, "this latent has two entries", "one", name)
            for name in found
            if name in chosen
        )
        chosen.update(dict.fromkeys(found, count))
    if problems:
        raise ArgumentError(*problems)
    default = augment.get("default", _UNNAMED_AUGMENT)
    return {v.name: chosen.get(v.name, default) for v in layout.latents}


def _with_kinds(problem: Problem, place: str) -> Problem:
    """What is wrong with a setting of a flow, and what else has it."""
    if problem.what != UNKNOWN:
        return problem
    key = problem.where.removeprefix(f"{place}, ")
    named = " or ".join(f'kind = "{kind}"' for kind in kinds_with(key))
    ending = f", or {named}, which has this key" if named else ""
    if key in {each.name for each in fields(TrainingConfig)}:
        ending += f", or {key} above [flow], where it belongs"
    return replace(problem, expected=problem.expected + ending)


def _checked_augment(
    table: Mapping[str, Any], where: str, problems: list[Problem]
) -> dict[str, int]:
    (known,) = (f for f in fields(TrainingConfig) if f.name == "augment")
    values = {"default": _UNNAMED_AUGMENT}
    for key, value in table.items():
        if problem := problem_of(known, value, f"{where}, augment, {shortened(key)}"):
            problems.append(problem)
        else:
            values[key] = value
    return values
