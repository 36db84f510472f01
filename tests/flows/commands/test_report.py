"""Tests of daphne-flows report: the page is whole and needs no network."""

import base64
import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from daphne_bridge.graph.document import NodeNames, dump_names, load_document
from daphne_bridge.inversion.document import dump_inverse
from daphne_bridge.inversion.nami import invert
from flows.cli import main
from flows.commands.model_argument import load_any

from .pair import bad, good

pytest.importorskip("matplotlib")

DEEP = "[" * 100_000
CHROMIUM = shutil.which("chromium")


class Page(HTMLParser):
    """Collects tags, and checks that they are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open = []
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "source"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    """A run with everything that a page can show."""
    folder = tmp_path_factory.mktemp("report") / "pair"
    shutil.copytree(run, folder)
    graph, artifact = folder / "graph.json", folder / "artifact"
    dump_inverse(invert(load_any(graph).graph), folder / "inverse.json")
    good("sample", artifact, graph, "-o", folder / "particles")
    good(
        "evaluate", artifact, graph, "-o", folder / "evaluation.json",
        "--num-draws", 200, "--num-data-sets", 4, "--num-particles", 100,
    )  # fmt: skip
    good(
        "diagnose", artifact, graph, "-o", folder / "diagnosis",
        "--num-data-sets", 60,
    )  # fmt: skip
    return folder


def test_the_page_shows_everything_and_loads_nothing(whole, tmp_path):
    program = tmp_path / "p.daphne"
    program.write_text("(let [a <script>alert(1)</script>] a)")
    good("report", whole, "--program", program)
    text = (whole / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert not [tag for tag, _ in page.tags if tag in ("script", "iframe")]
    assert "&lt;script&gt;alert" in text
    links = [a.get(key) for _, a in page.tags for key in ("src", "srcset", "href")]
    assert all(each.startswith("data:") for each in links if each)
    pictures = [a for tag, a in page.tags if tag == "img"]
    assert len(pictures) == 15
    assert all(each["alt"] for each in pictures)
    narrow = [a["srcset"] for tag, a in page.tags if tag == "source"]
    assert len(narrow) == 7
    for each in [*(a["src"] for a in pictures), *narrow]:
        svg = base64.b64decode(each.partition("base64,")[2])
        assert ElementTree.fromstring(svg).tag.endswith("svg")
        assert not re.search(rb"href=\"(?!#|data:image/png;base64,)", svg)
    for part in (
        "Posterior predictive",
        "Weighted draws",
        "Against the prior",
        "log evidence",
        "Pareto k-hat",
        "Calibration",
        "torch",
    ):
        assert part in text
    assert "not there" not in text


def test_labels_of_any_characters_are_shown_as_they_stand(whole, tmp_path):
    """A label is no markup, no formula, and no command to a terminal."""
    folder = tmp_path / "evil"
    shutil.copytree(whole, folder)
    label = "a\x1b[31m<b>$x$\x07"
    document = load_document(folder / "graph.json")
    names = NodeNames(labels={"sample1": label})
    dump_names(names, document, folder / "graph.json")
    artifact, graph = folder / "artifact", folder / "graph.json"
    said = good("sample", artifact, graph, "-o", folder / "particles")
    assert "\x1b" not in said
    assert "a\\x1b[31m<b>" in said
    good("diagnose", artifact, graph, "-o", folder / "diagnosis", "--num-data-sets", 60)
    good("report", folder)
    text = (folder / "report.html").read_text()
    assert "a\\x1b[31m&lt;b&gt;$x$\\x07" in text
    assert all(c.isprintable() or c == "\n" for c in text)
    pictures = [a["src"] for tag, a in Page(text).tags if tag == "img"]
    for each in pictures:
        ElementTree.fromstring(base64.b64decode(each.partition("base64,")[2]))


def test_what_is_missing_is_named_with_its_command(run, tmp_path):
    folder = tmp_path / "r"
    folder.mkdir()
    shutil.copy(run / "graph.json", folder)
    good("report", folder)
    text = (folder / "report.html").read_text()
    for command in ("train", "sample", "evaluate", "diagnose"):
        assert f"daphne-flows {command}" in text
    for name in (
        "evaluation.json",
        "diagnosis/diagnosis.json",
        "particles/summary.json",
        "artifact/manifest.json",
    ):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        for damaged in ("{}", "[]", "[1]", "{oops", '"text"', DEEP):
            if name.startswith("artifact") and damaged in ("{}", "[]"):
                continue
            path.write_text(damaged)
            said = f"{path}: damaged; expected what the command wrote\n"
            assert bad("report", folder).endswith(said)
        path.unlink()


def test_a_number_beyond_the_doubles_is_damage(run, tmp_path):
    folder = tmp_path / "r"
    shutil.copytree(run / "artifact", folder / "artifact")
    shutil.copy(run / "graph.json", folder)
    good("sample", run / "artifact", run / "graph.json", "-o", folder / "particles")
    path = folder / "particles" / "summary.json"
    path.write_text(re.sub(r'"mean": [^,]*', f'"mean": {10**400}', path.read_text()))
    said = f"{path}: damaged; expected what the command wrote\n"
    assert bad("report", folder).endswith(said)
    assert bad("summary", folder).endswith(said)


def test_an_answer_is_shown_with_bars_of_its_discrete_values(tmp_path):
    program = """
    (let [k (sample (uniform-discrete 0 50)) z (sample (flip 0.25))]
      (observe (normal 0 1) 0)
      {:k k :word (if z "<yes>" "no")})"""
    good("infer", "-", "-o", tmp_path / "r", input=program)
    good("report", tmp_path / "r")
    text = (tmp_path / "r" / "report.html").read_text()
    shares = [float(a["value"]) for tag, a in Page(text).tags if tag == "meter"]
    # of k 20 values and the others, twice; z; the word
    assert len(shares) == 2 * 21 + 2 + 2
    assert math.isclose(sum(shares), 4.0)
    assert sum(math.isclose(share, 0.6) for share in shares) == 2
    assert "&#34;&lt;yes&gt;&#34;" in text
    assert "return.word" in text
    assert "-0.9189385" in text


MIXED = """
(let [a (sample (normal 0 1)) k (sample (flip 0.3)) s (sample (half-normal 1))]
  (observe (normal (if k a 0) s) 1.3)
  (observe (poisson (exp a)) 3)
  a)"""
PICTURES = {
    "path": "temperature, ESS and acceptance of each island",
    "marginals": "posterior marginals; the prior in grey",
    "pairs": "pairs of latents",
    "weights": "histogram of log weights",
    "predicted": "new data; a line marks the data at hand",
}


def answered(folder, program, *options):
    """Infer, whether the answer is trusted or not."""
    arguments = ["infer", "-", "-o", str(folder), *map(str, options)]
    result = CliRunner().invoke(main, arguments, input=program)
    assert result.exit_code in (0, 3), result.output


def alts(folder):
    """Return what the pictures of a page show, in short."""
    good("report", folder)
    page = Page((folder / "report.html").read_text())
    assert page.open == []
    found = [a["alt"] for tag, a in page.tags if tag == "img"]
    return [key for key, alt in PICTURES.items() if alt in found]


@pytest.mark.parametrize("method", ["prior", "laplace", "smc"])
def test_an_answer_by_every_method_has_its_pictures(method, tmp_path):
    options = ("--method", method, "--num-particles", 300, "--target-ess", 20)
    answered(tmp_path, MIXED, *options)
    expected = [key for key in PICTURES if key != "path" or method == "smc"]
    assert alts(tmp_path) == expected
    text = (tmp_path / "report.html").read_text()
    assert ("islands differ" in text) == (method == "smc")
    # An answer needs no flow, so the page asks for none.
    assert "daphne-flows train" not in text


def test_an_answer_of_an_earlier_version_shows_what_it_holds(tmp_path):
    options = ("--num-particles", 300, "--target-ess", 20, "--observe", "observe4=9")
    answered(tmp_path, MIXED, *options)
    path = tmp_path / "inference.json"
    answer = json.loads(path.read_text())
    assert answer.pop("observed") == {"observe3": 1.3, "observe4": 9.0}
    del answer["tempering"]
    path.write_text(json.dumps(answer))
    assert alts(tmp_path) == ["marginals", "pairs", "weights"]
    (tmp_path / "particles.npz").unlink()
    assert alts(tmp_path) == []


@pytest.mark.parametrize(
    ("program", "shown"),
    [
        ("(observe (normal 0 1) 0.5)", ["predicted"]),
        ("(sample (normal 0 1))", ["marginals", "pairs", "weights"]),
        ("(let [k (sample (flip 0.5))] (observe (flip 0.0) true) k)", []),
        # Half of the prior's draws, and of the new data's, have no meaning.
        (
            "(let [s (sample (normal 1 1))] (observe (normal 0 s) 1) s)",
            ["marginals", "pairs", "weights", "predicted"],
        ),
        ("(+ 1 2)", []),
    ],
)
def test_odd_answers_have_a_page(program, shown, tmp_path):
    answered(tmp_path, program)
    assert alts(tmp_path) == shown


def test_an_answer_that_cannot_be_trusted_says_so_first(tmp_path):
    program = "(let [k (sample (flip 0.5))] (observe (flip 0.0) true) k)"
    answered(tmp_path, program)
    good("report", tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert text.index("cannot be trusted") < text.index("<h2>Model")
    assert text.index("have probability 0") < text.index("<h2>Model")


def test_a_run_that_does_not_exist_is_said(tmp_path):
    said = f"{tmp_path / 'no'}: this run does not exist; expected the folder"
    assert bad("report", tmp_path / "no").startswith(said)
    assert bad("summary", tmp_path / "no").startswith(said)


def test_a_page_takes_the_place_of_no_file_of_the_run(run, tmp_path):
    graph = tmp_path / "graph.json"
    shutil.copy(run / "graph.json", graph)
    before = graph.read_bytes()
    said = bad("report", tmp_path, "-o", graph)
    assert "it is an input of the command; expected another place" in said
    program = tmp_path / "p.daphne"
    program.write_text("1")
    said = bad("report", tmp_path, "--program", program, "-o", program)
    assert "expected another place" in said
    said = bad("evaluate", run / "artifact", graph, "-o", graph)
    assert "expected another place" in said
    assert graph.read_bytes() == before
    good("report", tmp_path)
    good("report", tmp_path)


# What the page says of itself once it is shown, in the title of the page around it.
PROBE = """<script>addEventListener('load', () => parent.postMessage([
  [...document.images].filter(i => !i.complete || !i.naturalWidth).length,
  [...document.images].filter(i => i.getBoundingClientRect().right > innerWidth).length,
  document.documentElement.scrollWidth,
  innerWidth,
].join(' '), '*'));</script></body>"""
FRAME = """<!doctype html><title>nothing</title><body style="margin: 0">
<script>addEventListener('message', e => { document.title = e.data; });</script>
<iframe src="page.html" style="width: WIDTHpx; height: 800px; border: 0"></iframe>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [360, 1280])
def test_a_browser_shows_the_page_at_phone_and_desk_width(whole, tmp_path, width):
    """No picture is missing or cut off, nothing overflows, nothing is complained of.

    The page stands in a frame, as a window of its own is never narrower than 500.
    """
    page, frame = tmp_path / "page.html", tmp_path / "frame.html"
    good("report", whole, "-o", page)
    page.write_text(page.read_text().replace("</body>", PROBE))
    frame.write_text(FRAME.replace("WIDTH", str(width)))
    said = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync",
            f"--user-data-dir={tmp_path / 'chrome'}", "--enable-logging=stderr",
            "--window-size=1400,900", "--virtual-time-budget=4000", "--dump-dom",
            frame.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", said.stdout)[1]
    num_bad, num_cut, needed, inner = map(int, title.split())
    assert inner == width
    assert num_bad == 0
    assert num_cut == 0
    assert needed <= inner
    assert "CONSOLE" not in said.stderr
