"""Tests of flows.experiments.figures."""

import pytest

pytest.importorskip("matplotlib")
figures = pytest.importorskip("flows.experiments.figures")


def bands(*medians):
    return [{"median": m, "low": m / 2, "high": 2 * m} for m in medians]


def test_curves_show_the_numbers_they_were_given():
    curves = {
        "a": {"j": bands(8.0, 4.0), "j_of_seeds": []},
        "b": {"j": bands(2.0, 1.0), "j_of_seeds": [[1.5, 0.5], [2.5]]},
    }
    figure = figures.draw_j_over_iterations([0, 10], curves)
    (ax,) = figure.axes
    medians = [line for line in ax.lines if not line.get_label().startswith("_")]
    assert [line.get_label() for line in medians] == ["a", "b"]
    assert medians[1].get_xydata().tolist() == [[0.0, 2.0], [10.0, 1.0]]
    seeds = [line for line in ax.lines if line not in medians]
    assert [line.get_ydata().tolist() for line in seeds] == [[1.5, 0.5], [2.5]]


def test_evaluations_are_drawn_per_direction():
    networks = {"full": {"to_latent": bands(20, 26), "to_base": bands(14, 32)}}
    figure = figures.draw_evaluations([0, 10], networks)
    left, right = figure.axes
    assert left.lines[0].get_ydata().tolist() == [20, 26]
    assert right.lines[0].get_ydata().tolist() == [14, 32]


def test_every_latent_has_a_panel_with_its_statistic():
    latent = {"ks": 0.0123, "edges": [0.0, 1.0, 2.0], "model": [1, 2], "flow": [2, 1]}
    numbers = {"latents": {f"z{i}": latent for i in range(4)}}
    figure = figures.draw_marginals(numbers)
    titles = [ax.get_title() for ax in figure.axes]
    assert titles[:4] == [f"z{i}: KS 0.012" for i in range(4)]


def test_a_patch_has_one_row_of_images():
    examples = {
        "inputs": [[[0.0]]],
        "filters": [[[1.0]]],
        "outputs": [[[2.0]]],
        "samples": [[[[3.0]], [[4.0]]]],
        "reconstructions": [[[[5.0]], [[6.0]]]],
    }
    figure = figures.draw_deconvolution({"examples": examples})
    shown = [float(ax.images[0].get_array()[0, 0]) for ax in figure.axes]
    assert shown == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_every_energy_has_a_row_with_the_divergence_of_each_flow():
    flat = [[1.0, 1.0], [1.0, 1.0]]
    fitted = {"planar, 2": {"kl": 0.5, "density": flat}}
    numbers = {
        "energies": {name: {"density": flat, "flows": fitted} for name in ("u1", "u2")},
        "extent": [4.0, 6.0],
    }
    figure = figures.draw_energies(numbers)
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == [
        "exp(-u1)", "planar, 2\nKL 0.5", "exp(-u2)", "planar, 2\nKL 0.5"
    ]  # fmt: skip


def test_steps_are_drawn_as_gaps_to_the_best_bound():
    heights = [(0, 0.0, -9.0), (1, 0.5, -2.0)]
    ways = [
        dict(zip(("iteration", "seconds", "bound"), h, strict=True)) for h in heights
    ]
    numbers = {"programs": {"toy": {"natural": ways, "plain": ways[:1]}}}
    left, right = figures.draw_natural_steps(numbers).axes
    assert left.lines[0].get_xydata().tolist() == [[0.0, 7.0], [1.0, 1e-5]]
    assert right.lines[0].get_xdata().tolist() == [0.0, 0.5]
    assert left.lines[1].get_ydata().tolist() == [7.0]


def test_bounds_are_drawn_over_particles_beside_decoded_images():
    gaps = [
        {"particles": num, "mean": 1.0 / num, "standard_error": 0.1} for num in (1, 10)
    ]
    decoded = [[float(n)] * 4 for n in range(9)]
    numbers = {"posteriors": {"a": {"gaps": gaps}}, "decoded": decoded}
    left, right = figures.draw_digits(numbers).axes
    assert left.lines[0].get_xydata().tolist() == [[1.0, 1.0], [10.0, 0.1]]
    shown = right.images[0].get_array()
    assert shown.shape == (6, 6)
    assert shown[0].tolist() == [0.0, 0.0, 1.0, 1.0, 2.0, 2.0]
    assert shown[5].tolist() == [6.0, 6.0, 7.0, 7.0, 8.0, 8.0]
