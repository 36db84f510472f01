"""Every remedy that a caution names is run where the caution stands, and works.

A case says a command that ends with a caution, words of the caution and of its remedy,
and the command with the remedy taken, which ends with exit code 0 and without it.
"""

import json
import math
from dataclasses import dataclass

import pytest
from click.testing import CliRunner

import flows
from flows.cli import main

from .commands.pair import check_answer, make_run

SHARP = "(let [x (sample (normal 0 1))] (observe (normal x 1e-3) 0.5) x)"
RARE = (
    "(let [u (sample (uniform 0 1))] (observe (uniform (- u 1e-4) (+ u 1e-4)) 0.5) u)"
)
MANY = """(let [xs (foreach 10 [] (sample (normal 0 10)))]
  (foreach 10 [x xs] (observe (normal x 0.001) 1)) (get xs 0))"""
NEEDLE = """(defn square [x] (* x x))
(let [x (sample (normal 0 3)) y (sample (normal 0 3))
      wide (+ (square (- x 2)) (square (- y 2)))
      thin (/ (+ (square (+ x 2)) (square (+ y 2))) 0.0009)]
  (observe (exponential (+ (exp (* -0.5 wide)) (/ (exp (* -0.5 thin)) 0.0009) 1e-300))
           0.0)
  x)"""
"""Two normals of about the same mass, one thirty times narrower: few lines find it."""
EDGE = "(let [p (sample (beta 0.01 0.01))] (observe (bernoulli p) 1) p)"


def said(*arguments, **options):
    """Return the exit code of a command and what it says as JSON."""
    call = CliRunner().invoke(main, [*map(str, arguments), "--json"], **options)
    assert call.exit_code in (0, 3), call.output
    return call.exit_code, json.loads(call.stdout)


@dataclass(frozen=True)
class Case:
    """A caution and its remedy; the remedied program is the same if None."""

    program: str
    options: tuple
    caution: str
    remedy: str
    taken: tuple
    evidence: float | None = None
    instead: str | None = None


NORMAL = math.log(math.sqrt(2 * math.pi))
CASES = {
    "rare particles: temper": Case(
        SHARP, ("--method", "prior"), "rare particles rule", "Use --method smc",
        ("--method", "smc"), -NORMAL - 0.125,
    ),
    "no weight: draw more of the prior": Case(
        RARE, ("--method", "prior", "--num-particles", 100), "none of 100 draws",
        "--method prior --num-particles",
        ("--method", "prior", "--num-particles", 1_000_000), 0.0,
    ),
    "no way: draw more of the prior": Case(
        RARE, ("--method", "smc"), "tempering found no way",
        "--method prior --num-particles",
        ("--method", "prior", "--num-particles", 1_000_000), 0.0,
    ),
    "no way: a likelihood that is less sharp": Case(
        RARE, ("--method", "smc"), "tempering found no way", "less sharp", (), 0.0,
        RARE.replace("1e-4", "0.1"),
    ),
    "the budget: more time": Case(
        SHARP, ("--method", "smc", "--budget", "0.01s"), "was used up",
        "Allow more time by --budget", ("--method", "smc", "--budget", "5m"),
        -NORMAL - 0.125,
    ),
    "islands that differ: modes": Case(
        NEEDLE, ("--method", "smc", "--num-particles", 1000), "independent islands",
        "Use --method auto", (), math.log(
            math.exp(-0.4) / 10 + math.exp(-4 / 9.0009) / 9.0009
        ),
    ),
    "the ends of doubles: the prior": Case(
        EDGE, ("--method", "laplace"), "are where doubles end", "Use --method prior",
        ("--method", "prior"), math.log(0.5),
    ),
    "the ends of doubles: temper": Case(
        EDGE, ("--method", "laplace"), "are where doubles end", "or --method smc",
        ("--method", "smc"), math.log(0.5),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_what_a_caution_of_infer_names_answers(case):
    code, before = said("infer", "-", *case.options, input=case.program)
    (caution,) = [each for each in before["cautions"] if case.caution in each]
    assert case.remedy in caution
    code, after = said("infer", "-", *case.taken, input=case.instead or case.program)
    assert code == 0, after["cautions"]
    assert not any(case.caution in each for each in after["cautions"])
    if case.evidence is not None:
        found = after["log_evidence"]
        assert abs(found["value"] - case.evidence) < 5 * found["standard_error"] + 1e-3


def test_unknown_errors_are_answered_by_more_particles():
    smc = ("infer", "-", "--method", "smc", "--num-particles")
    code, before = said(*smc, 100, input=MANY)
    assert code == 3
    words = ("evidence is not known", "of the slowest latent is")
    for caution, found in zip(words, before["cautions"], strict=True):
        assert caution in found
        assert "raw more by --num-particles" in found
    code, after = said(*smc, 10_000, input=MANY)
    assert code == 0
    found, exact = after["log_evidence"], -10 * (NORMAL + math.log(10) + 0.005)
    assert abs(found["value"] - exact) < 5 * found["standard_error"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("remedies"))


FAR = ("--observe", "observe3=8", "--observe", "observe4=16")
PRIOR = ("--proposal", "prior")
FIVE = (*PRIOR, "--method", "sequential", "--num-particles", 5)
STUCK = ("--most-moves", 1, "--leaps", 1, "--num-particles", 300)

OF_PARTICLES = {
    "a heavy tail: annealed SMC": (
        ("sample", *FAR, *PRIOR), "k-hat is", "`daphne-flows smc`",
        ("smc", *FAR, *PRIOR, "--num-particles", 300),
    ),
    "a heavy tail: the flow mixed with the prior": (
        ("sample", *FAR, *PRIOR), "k-hat is", "--proposal mixture",
        ("sample", *FAR, "--proposal", "mixture"),
    ),
    "particles wasted: annealed SMC": (
        ("sample", *FAR, *PRIOR), "effective sample size", "`daphne-flows smc`",
        ("smc", *FAR, "--num-particles", 300),
    ),
    "an unknown evidence: draw more": (
        ("sample", *PRIOR, "--num-particles", 30), "error of the log evidence",
        "Draw more particles (--num-particles)",
        ("sample", *PRIOR, "--num-particles", 50_000),
    ),
    "stuck: more and longer moves": (
        ("smc", *STUCK), "hardly moved", "more moves (--most-moves)",
        ("smc", *STUCK[4:]),
    ),
    "few lines of descent: runs": (
        ("smc", *FIVE), "all particles descend", "20 independent runs (--runs)",
        ("smc", *FIVE, "--runs", 20),
    ),
    "few lines of descent: more particles": (
        ("smc", *FIVE), "all particles descend", "more particles (--num-particles)",
        ("smc", *FIVE, "--num-particles", 3000),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OF_PARTICLES.values(), ids=list(OF_PARTICLES))
def test_what_a_caution_of_particles_names_answers(case, run, tmp_path):
    (command, *options), caution, remedy, (other, *taken) = case
    of = (run / "artifact", run / "graph.json")
    code, before = said(command, *of, "-o", tmp_path / "p", *options)
    assert code == 3
    (found,) = [each for each in before["cautions"] if caution in each["what"]]
    assert remedy in found["remedy"]
    code, after = said(other, *of, "-o", tmp_path / "p", *taken)
    assert code == 0
    assert not any(caution in each["what"] for each in after["cautions"])
    check_answer(after, *((8.0, 16.0) if FAR[1] in taken else ()))


@pytest.mark.parametrize("caution", ["k-hat is", "effective sample size"])
def test_a_flow_that_is_bent_to_the_data_carries_weight(caution, run, tmp_path):
    of = (run / "artifact", run / "graph.json")
    code, before = said("sample", *of, "-o", tmp_path / "p", *FAR, *PRIOR)
    assert code == 3
    (found,) = [each for each in before["cautions"] if caution in each["what"]]
    assert "bend the flow to these data (`daphne-flows refine`)" in found["remedy"]
    code, _ = said("refine", *of, "-o", tmp_path / "bent", *FAR, "--budget", "5s")
    assert code == 0
    bent = (tmp_path / "bent", run / "graph.json")
    code, after = said("sample", *bent, "-o", tmp_path / "q", *FAR)
    assert code == 0
    assert not any(caution in each["what"] for each in after["cautions"])
    check_answer(after, 8.0, 16.0)


def test_a_prior_that_overflows_is_answered_without_a_flow_or_made_narrower():
    program = (
        "(let [s (sample ({} 1)) u (sample (normal 0 s))]"
        " (observe (poisson (exp u)) 3) s)"
    )
    wide, narrow = (
        flows.Model.from_program(program.format(prior))
        for prior in ("half-cauchy", "half-normal")
    )
    quick = {"max_iterations": 5, "budget_seconds": 0.0, "certify_draws": 100}
    with pytest.raises(flows.FlowsError) as caught:
        flows.train(wide, config=quick)
    said = str(caught.value)
    assert "a narrower one say (`daphne-flows infer` leaves such draws out)" in said
    assert flows.infer(wide, seed=0).is_trusted
    flows.train(narrow, config=quick)


def test_data_that_the_model_hardly_draws_are_answered_by_annealed_smc(run, tmp_path):
    far = ("--observe", "observe3=40", "--observe", "observe4=80")
    of = (run / "artifact", run / "graph.json", "-o", tmp_path / "p", *far)
    code, before = said("sample", *of, *PRIOR)
    assert code == 3
    assert (
        "annealed SMC (`daphne-flows smc`) answers" in before["cautions"][0]["remedy"]
    )
    code, after = said("smc", *of, *PRIOR, "--num-particles", 1000)
    assert code == 0
    check_answer(after, 40.0, 80.0)


@pytest.mark.parametrize(
    ("program", "evidence"),
    [
        (
            "(let [m (sample (normal 0 1e6))] (observe (normal m 0.001) 12345) m)",
            -NORMAL - math.log(1e6) - 0.012345**2 / 2,
        ),
        (
            "(let [m (sample (normal 0 1))] (observe (normal m 1e-10) 0.5) m)",
            -NORMAL - 0.125,
        ),
    ],
)
def test_annealed_smc_answers_however_sharp_the_data_are(program, evidence, tmp_path):
    def run(command, *options):
        call = (command, "-", "-o", tmp_path / "p", *PRIOR, *options)
        return said(*call, input=program)

    code, before = run("sample")
    assert code == 3
    assert any("`daphne-flows smc`" in each["remedy"] for each in before["cautions"])
    code, after = run("smc", "--num-particles", 300)
    assert code == 0
    error = after["log_evidence_standard_error"]
    assert abs(after["log_evidence"] - evidence) < 5 * error < 2.5


DISCRETE = "(let [k (sample (poisson 3))] (observe (normal k 1) 5) k)"


@pytest.mark.parametrize(
    "arguments",
    [
        ("smc", "-", *PRIOR),
        ("smc", "-", *PRIOR, "--method", "sequential"),
        ("refine", "-"),
    ],
)
def test_infer_answers_what_other_commands_refuse_and_send_there(arguments, tmp_path):
    out = ("-o", str(tmp_path / "out"))
    call = CliRunner().invoke(main, [*arguments, *out], input=DISCRETE)
    assert call.exit_code == 2
    assert "daphne-flows infer" in call.output
    code, answer = said("infer", "-", input=DISCRETE)
    assert (code, answer["method"]) == (0, "exact")
