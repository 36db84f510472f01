"""Tests of flows.marginal on random mixed programs, against all configurations."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from flows.marginal.target import collapse
from flows.model.model import Model
from tests.flows.marginal.test_collapsed import by_enumeration, configurations
from tests.flows.model.programs import graph_of

NUMBERS = st.integers(-8, 8).map(lambda number: number / 4)


@st.composite
def programs(draw):
    """Programs of up to four discrete latents and two continuous ones, with data."""
    discrete, continuous, bindings = [], [], []

    def number(depth):
        """A number that any latents decide."""
        kinds = ["constant", *(["sum", "if", "get"] if depth else [])]
        kinds += ["continuous"] * bool(continuous)
        kind = draw(st.sampled_from(kinds))
        if kind == "continuous":
            return draw(st.sampled_from(continuous))
        if kind == "sum":
            return f"(+ {number(depth - 1)} {number(depth - 1)})"
        if kind == "if" and discrete:
            return f"(if {truth()} {number(depth - 1)} {number(depth - 1)})"
        if kind == "get" and discrete:
            name, size = draw(st.sampled_from(discrete))
            items = " ".join(number(depth - 1) for _ in range(size))
            return f"(get [{items}] {name})"
        return f"{draw(NUMBERS)}"

    def truth():
        name, size = draw(st.sampled_from(discrete))
        return f"({draw(st.sampled_from('=<'))} {name} {draw(st.integers(0, size))})"

    def chance():
        if discrete and draw(st.booleans()):
            return f"(if {truth()} 0.25 0.7)"
        if continuous and draw(st.booleans()):
            return f"(/ 1 (+ 1 (exp {draw(st.sampled_from(continuous))})))"
        return "0.6"

    for place in range(draw(st.integers(2, 6))):
        name = f"v{place}"
        family = draw(st.sampled_from(["normal", "bernoulli", "discrete", "binomial"]))
        if family == "normal" and len(continuous) < 2:
            call = (
                f"(normal {number(2)} (if {truth()} 0.5 2.0))"
                if discrete
                else ("(normal 0.5 2.0)")
            )
            bindings.append(f"{name} (sample {call})")
            continuous.append(name)
        elif len(discrete) < 4:
            call, size = {
                "bernoulli": (f"(bernoulli {chance()})", 2),
                "discrete": (f"(discrete [0.2 {chance()} 0.5])", 3),
            }.get(family, (f"(binomial 2 {chance()})", 3))
            bindings.append(f"{name} (sample {call})")
            discrete.append((name, size))
    if not discrete:
        bindings.append("final (sample (bernoulli 0.3))")
        discrete.append(("final", 2))
    data = [f"(observe (normal {number(3)} 1.5) {draw(NUMBERS)})" for _ in range(2)]
    data.append(f"(observe (bernoulli {chance()}) {draw(st.integers(0, 1))})")
    return f"(let [{' '.join(bindings)}] {' '.join(data)} {discrete[0][0]})"


@given(programs())
@settings(max_examples=25)
def test_what_is_summed_out_is_what_all_configurations_give(text):
    model = Model.from_graph(graph_of(text))
    collapsed = collapse(model)
    generator = torch.Generator().manual_seed(0)
    observed = model.observation()
    latents = collapsed.sample(3, generator=generator).latents
    terms = by_enumeration(model, collapsed, latents, observed)
    torch.testing.assert_close(
        collapsed.log_joint(latents, observed), terms.logsumexp(0), atol=1e-10, rtol=0
    )
    columns, codes = configurations(model, collapsed)
    chances = terms.softmax(0)
    elimination = collapsed.tables.elimination
    found = elimination.marginals(collapsed.entries(latents, observed))
    for position in range(len(collapsed.tables.discrete)):
        for value, own in enumerate(found[position]):
            has_it = torch.tensor([code[position] == value for code in codes])
            torch.testing.assert_close(
                own.expand(3), chances[has_it].sum(0), atol=1e-10, rtol=0
            )
    num = 2000
    one = latents[:1].expand(num, -1)
    drawn = collapsed.complete(one, observed, generator=generator)[:, columns]
    counts = np.zeros(len(codes))
    sizes = [len(values) for values in collapsed.tables.values.values()]
    places = np.ravel_multi_index(drawn.long().numpy().T, sizes)
    np.add.at(counts, places, 1)
    expected = num * chances[:, 0].numpy()
    is_common = expected > 1.0
    if is_common.sum() > 1:
        gaps = (counts - expected)[is_common] ** 2 / expected[is_common]
        assert chi2.sf(gaps.sum(), is_common.sum() - 1) > 1e-6
    rare = expected[~is_common].sum()
    assert counts[~is_common].sum() <= rare + 6 * np.sqrt(rare) + 6
