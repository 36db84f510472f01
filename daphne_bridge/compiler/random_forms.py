"""This file evaluates the forms that make random variables: sample and observe."""

from typing import Any

from ..language.families import DISTRIBUTIONS
from ..language.primitives import Keyword, PrimitiveError
from .analyser import Analyser
from .description import described
from .desugar import describe
from .distributions import check_observation, is_distribution
from .evaluation import evaluate
from .forms import Compound, Form, Literal, Symbol, head_name
from .kept_lets import with_lets
from .meaning import Variable
from .recursion import Recursive
from .terms import CallTerm, FunctionTerm, NodeTerm, parts_of

__all__ = ["observe", "sample"]


def sample(analyser: Analyser, form: Compound) -> Recursive[Any]:
    """Return a new latent: `(sample d)` or `(sample name d)`."""
    usage = "(sample distribution) or (sample name distribution)"
    analyser.check_parts(form, 1, 2, usage)
    site = _site_name(analyser, form, 3)
    distribution = yield from _simplified(analyser, form.items[-1])
    _check_distribution(analyser, distribution, form.items[-1], "sample")
    return (yield _drawn(analyser, distribution, form, site))


def _drawn(
    analyser: Analyser, distribution: CallTerm, form: Compound, site: str
) -> Recursive[Any]:
    """Return a draw; of branches that measure and that count, one of each."""
    if distribution.head == "dirac":  # its draw is its value: no random variable
        return distribution.arguments[0]
    if distribution.head == "if" and _must_be_drawn_apart(distribution):
        condition, then, otherwise = distribution.arguments
        yes = yield _drawn(analyser, then, form, site)
        no = yield _drawn(analyser, otherwise, form, site)
        return CallTerm("if", (condition, yes, no))
    name = analyser.fresh(site or "sample")
    return analyser.add(Variable(name, "", distribution, form.span, site=site))


def _must_be_drawn_apart(distribution: CallTerm) -> bool:
    """Whether no random variable has such a distribution, a spike and a slab say."""
    heads: set[str] = set()
    work = [distribution]
    while work:
        item = work.pop()
        if item.head == "if":
            work.extend(item.arguments[1:])
        elif item.head in DISTRIBUTIONS:
            heads.add(item.head)
    return "dirac" in heads or len({DISTRIBUTIONS[h].is_discrete for h in heads}) > 1


def observe(analyser: Analyser, form: Compound) -> Recursive[Any]:
    """Return a new observed variable: `(observe d y)` or `(observe name d y)`."""
    usage = "(observe distribution value) or (observe name distribution value)"
    analyser.check_parts(form, 2, 3, usage)
    site = _site_name(analyser, form, 4)
    distribution = yield from _simplified(analyser, form.items[-2])
    _check_distribution(analyser, distribution, form.items[-2], "observe")
    observation = yield from _simplified(analyser, form.items[-1])
    _check_observation(analyser, observation, form.items[-1])
    try:
        check_observation(distribution, observation)
    except PrimitiveError as problem:
        expected = f"a value that ({distribution.head} ...) can take"
        raise analyser.error(
            form.items[-1], str(problem), expected, described(observation)
        ) from None
    kept = tuple(
        with_lets(analyser, part, value)
        for part, value in zip(
            form.items[-2:], (distribution, observation), strict=True
        )
    )
    variable = Variable(
        analyser.fresh(site or "observe"),
        "",
        distribution,
        form.span,
        analyser.place.guard,
        is_observed=True,
        observation=observation,
        site=site,
        kept=(kept[0], kept[1]),
    )
    analyser.check_size(variable.guard, form.span)
    return analyser.add(variable)


def _simplified(analyser: Analyser, form: Form) -> Recursive[Any]:
    place = analyser.place
    before, place.is_simplified = place.is_simplified, True
    value = yield evaluate(analyser, form)
    place.is_simplified = before
    return value


def _site_name(analyser: Analyser, form: Compound, length: int) -> str:
    """Return the name that a site gives its variable; empty if it gives none."""
    if len(form.items) < length:
        return ""
    given = form.items[1]
    value: Any = given.value if isinstance(given, Literal) else None
    if isinstance(given, Symbol):
        binding = analyser.place.scope.look_up(given.name)
        if binding is None or not isinstance(binding.value, str):
            return given.name
        value = binding.value
    if isinstance(value, Keyword):
        return f":{str.__str__(value)}"
    if isinstance(value, str) and value:
        return value
    raise analyser.error(
        given,
        f"{head_name(form)} has a name that is none",
        "a string, symbol or keyword",
        describe(given),
    )


def _check_distribution(analyser: Analyser, value: Any, form: Form, head: str) -> None:
    if is_distribution(value):
        return
    if isinstance(value, CallTerm) and value.head == "if":
        parts = [is_distribution(part) for part in value.arguments[1:]]
        if any(parts):
            missing = "else" if parts[0] else "then"
            raise analyser.error(
                form,
                f"this `if` has no distribution in its {missing} branch",
                "(if condition distribution distribution)",
                described(value.arguments[1 + parts.index(False)]),
            )
    raise analyser.error(
        form,
        f"{head} needs a distribution",
        "a call such as (normal 0 1)",
        described(value),
    )


def _check_observation(analyser: Analyser, value: Any, form: Form) -> None:
    work = [value]
    while work:
        item = work.pop()
        if isinstance(item, NodeTerm):
            raise analyser.error(
                form,
                "an observed value is known before the program runs",
                "a constant",
                f"a value that depends on the random variable {item.name}",
            )
        if isinstance(item, FunctionTerm) or is_distribution(item):
            raise analyser.error(
                form,
                "an observed value is a value",
                "a constant",
                described(item),
            )
        work.extend(parts_of(item))
