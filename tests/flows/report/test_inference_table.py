"""Tests of flows.report.inference_table."""

from flows.report.inference_table import inference_table

from .test_tables import printed

FIGURES = dict.fromkeys(("mean", "mc_error", "sd", "q05", "median", "q95"), -0.0123456)
TOSSED = FIGURES | {"probabilities": {"false": 0.25, "true": 0.75}}


def answer(latents, returned=None, ess=10_000.0):
    return {
        "ok": True,
        "method": "exact",
        "why": "because",
        "latents": latents,
        "return": returned,
        "log_evidence": {"value": -1.0, "standard_error": 0.0},
        "ess": ess,
        "num_particles": 10_000,
        "khat": None,
        "cautions": [],
    }


def test_names_and_figures_stay_whole_on_a_narrow_terminal():
    names = [f"transition[{i}][{j}]" for i in range(3) for j in range(3)]
    text = printed(inference_table(answer(dict.fromkeys(names, TOSSED)), "x"), width=80)
    assert "…" not in text
    cells = [line.split("│")[1:3] for line in text.splitlines() if "│" in line]
    assert "".join(name.strip() for name, _ in cells) == "".join(names)
    assert [mean.strip() for _, mean in cells if mean.strip()] == ["-0.012346"] * 9


def test_values_of_discrete_numbers_stand_below_with_their_probabilities():
    text = printed(inference_table(answer({"rain": TOSSED}, {"same": FIGURES}), "x"))
    assert "rain: false: 0.25, true: 0.75" in text.splitlines()
    assert "return.same" in text


def test_of_many_discrete_numbers_the_first_are_shown():
    latents = {f"z[{i}]": TOSSED for i in range(50)}
    lines = printed(inference_table(answer(latents), "x")).splitlines()
    shown = [line for line in lines if ": false: 0.25, true: 0.75" in line]
    assert shown == [f"z[{i}]: false: 0.25, true: 0.75" for i in range(12)]
    assert "... and 38 more by --json" in lines


def test_a_return_value_that_repeats_a_latent_is_not_shown_twice():
    assert "return" not in printed(inference_table(answer({"a": TOSSED}, TOSSED), "x"))


def test_a_number_that_is_returned_has_as_many_digits_as_a_mean():
    shown = printed(
        inference_table(answer({"a": FIGURES}, [2 / 3, True, 1234567]), "x")
    )
    means = [line.split("│")[2].strip() for line in shown.splitlines() if "[" in line]
    assert means == ["0.66667", "true", "1234567"]


def test_texts_that_are_returned_stand_below_the_table():
    long = "nothing " * 20
    shown = printed(
        inference_table(answer({"a": FIGURES}, {"n": long, "k": 1.5}), "x"), width=80
    )
    means = [line.split("│")[2].strip() for line in shown.splitlines() if "│" in line]
    assert means == ["-0.012346", "1.5"]
    assert "return.n: nothing nothing" in shown


def test_an_effective_sample_size_has_no_exponent():
    assert "10000 of 10000" in printed(inference_table(answer({"a": FIGURES}), "x"))


def test_of_one_island_nothing_is_compared():
    path = [{"temperature": 1.0}]
    gaps = ("log_evidence", "mean_in_standard_errors", "mean_in_deviations")
    tempering = {
        "coordinates": "free",
        "disagreement": dict.fromkeys(gaps),
        "islands": [{"path": path}],
    }
    found = answer({"a": FIGURES}) | {"tempering": tempering}
    text = printed(inference_table(found, "x"))
    assert "islands       1, compared with no other" in text
    assert "apart" not in text
