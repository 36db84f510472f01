"""Tests of flows.commands.json_lines and of the command `serve`."""

import io
import json
import random
import subprocess
import sys

import pytest
import torch

from daphne_bridge.graph.document import document_from_json
from daphne_bridge.graph.graph import Graph
from flows.commands.json_lines import LINE_LIMIT, Server, request_lines
from flows.commands.options import SEED
from flows.inference.importance import MOST_SEED
from flows.model.model import Model
from flows.proposals.flow import FlowProposal
from flows.storage.artifact import Artifact

from ..conftest import pair_document
from ..model.programs import graph_of
from ..saved_artifact import save_pair

GOOD = {"observe": {"observe3": 0.25}, "num_particles": 5, "seed": 1}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with an artifact and its document."""
    folder = tmp_path_factory.mktemp("served")
    save_pair(folder / "artifact")
    (folder / "graph.json").write_text(json.dumps(pair_document()))
    return folder


@pytest.fixture(scope="module")
def server(place):
    graph = Graph.from_document(document_from_json(pair_document(), "pair.json"))
    model = Model.from_graph(graph)
    flow = Artifact.load(place / "artifact").flow_for(graph, model.layout)
    return Server(FlowProposal(flow, model), 1000)


def ask(server, request):
    line = request if isinstance(request, bytes) else json.dumps(request).encode()
    text = server.answer(line)
    assert "\n" not in text
    return json.loads(text, parse_constant=pytest.fail)


def test_a_seed_that_the_commands_take_is_taken_here(server):
    assert ask(server, {**GOOD, "seed": MOST_SEED})["latents"]
    assert SEED.max == MOST_SEED


def test_an_answer_holds_the_draws_and_their_densities(server):
    answer = ask(server, GOOD)
    proposal, model = server.proposal, server.proposal.model
    data = torch.tensor([0.25, 1.5], dtype=torch.float64)
    draw = proposal.rsample_and_log_prob(
        data, 5, generator=torch.Generator().manual_seed(1)
    )
    assert answer["latents"]["sample1"] == draw.latents[:, 0].tolist()
    assert answer["latents"]["sample2"] == draw.latents[:, 1].tolist()
    assert answer["log_q"] == pytest.approx(draw.log_prob.tolist(), abs=1e-12)
    joint = model.log_joint(draw.latents, data)
    assert answer["log_joint"] == pytest.approx(joint.tolist(), abs=1e-12)
    expected = [
        p - q for p, q in zip(answer["log_joint"], answer["log_q"], strict=True)
    ]
    assert answer["log_weights"] == pytest.approx(expected, abs=1e-12)


def test_an_answer_depends_on_its_request_alone(server):
    first = ask(server, GOOD)
    ask(server, b"rubbish")
    assert ask(server, {**GOOD, "seed": 2}) != first
    assert ask(server, GOOD) == first


def test_data_that_is_left_out_is_the_documents(server):
    request = {"num_particles": 3, "seed": 1}
    data = {"observe3": 0.5, "observe4": 1.5}
    assert ask(server, request) == ask(server, {**request, "observe": data})


@pytest.mark.parametrize("name", ["a", 7, "ü\ud800"])
def test_a_request_may_have_a_name(server, name):
    assert ask(server, {**GOOD, "id": name})["id"] == name
    answer = ask(server, {**GOOD, "id": name, "seed": "x"})
    assert answer["id"] == name
    assert answer["error"]["where"] == "seed"


def test_vectors_keep_their_shape_and_what_is_not_finite_is_null(tmp_path):
    graph = graph_of("""
(let [m (sample (mvn [0 1] [[1 0] [0 1]]))
      s (sample (exponential 1))]
  (observe (normal (get m 0) 1) 0.5)
  s)""")
    model = Model.from_graph(graph)

    class Wild:
        """A proposal whose second draw lies nowhere."""

        def __init__(self):
            self.model = model

        def rsample_and_log_prob(self, data, num, *, generator):
            latents = torch.ones(num, 3, dtype=torch.float64)
            latents[1, 1] = torch.inf
            return type("D", (), {"latents": latents, "log_prob": latents[:, 0]})

    answer = ask(Server(Wild(), 10), {"num_particles": 2, "seed": 0})
    m, s = model.layout.latents
    assert answer["latents"][m.name] == [[1.0, 1.0], [1.0, None]]
    assert answer["latents"][s.name] == [1.0, 1.0]
    assert answer["log_weights"][1] is None


BAD = [
    ({**GOOD, "num_particles": 0}, "num_particles"),
    ({**GOOD, "num_particles": -1}, "num_particles"),
    ({**GOOD, "num_particles": 10**12}, "num_particles"),
    ({**GOOD, "num_particles": 2.0}, "num_particles"),
    ({**GOOD, "num_particles": True}, "num_particles"),
    ({**GOOD, "num_particles": None}, "num_particles"),
    ({**GOOD, "seed": -1}, "seed"),
    ({**GOOD, "seed": 2**64}, "seed"),
    ({**GOOD, "seed": MOST_SEED + 1}, "seed"),
    ({"seed": 1}, "num_particles"),
    ({"num_particles": 1}, "seed"),
    ({**GOOD, "observe": [1]}, "observe"),
    ({**GOOD, "observe": {"sample1": 1.0}}, "pair.json"),
    ({**GOOD, "observe": {"nobody": 1.0}}, "pair.json"),
    ({**GOOD, "observe": {"observe3": "text"}}, "pair.json"),
    ({**GOOD, "observe": {"observe3": True}}, "pair.json"),
    ({**GOOD, "observe": {"observe3": None}}, "pair.json"),
    ({**GOOD, "observe": {"observe3": [1.0, 2.0]}}, "pair.json"),
    ({**GOOD, "observe": {"observe3": {"a": 1}}}, "observe observe3"),
    ({**GOOD, "observe": {"observe3": [[[[[1]]]]]}}, "observe observe3"),
    ({**GOOD, "observe": {"observe3": 10**400}}, "observe observe3"),
    ({**GOOD, "partices": 1}, "request"),
    ({**GOOD, "id": [1]}, "id"),
    ([], "request"),
    (b"", "request:1:1"),
    (b"\n", "request:1:1"),
    (b"\xff\xfe", "request"),
    (b'{"seed": 1e999}', "request:1:10"),
    (b'{"observe": {"observe3": 1e999}, "num_particles": 1, "seed": 1}', "request:1"),
    (b'{"observe": {"observe3": NaN}, "num_particles": 1, "seed": 1}', "request:1:26"),
    (b'{"seed": 1, "seed": 2}', "request:1:1"),
    (b"9" * 10_000, "request"),
    (b"[" * 100_000, "request"),
    (b"[" * 100_000 + b"]" * 100_000, "request"),
    (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "request"),
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_what_cannot_be_answered_is_said(server, number):
    request, where = BAD[number]
    error = ask(server, request)["error"]
    assert list(error) == ["where", "what", "expected", "got"]
    assert error["where"].startswith(where)
    assert all(len(text) < 600 for text in error.values())
    assert error["expected"] != ""


def test_long_lines_are_passed_over_without_being_held():
    stream = io.BytesIO(b"a" * 25 + b"\nb\n" + b"c" * 10 + b"\n" + b"d" * 11 + b"\ne")
    assert list(request_lines(stream, 10)) == [
        None,
        b"b\n",
        b"c" * 10 + b"\n",
        None,
        b"e",
    ]
    assert list(request_lines(io.BytesIO(b"a" * 25), 10)) == [None]
    assert list(request_lines(io.BytesIO(b""), 10)) == []


def fuzzed(source):
    """Return one line that is wrong in some way, or right."""
    line = bytearray(json.dumps(GOOD).encode())
    kind = source.randrange(8)
    values = [None, True, -1, 0, 10**12, 1e308, "x", [], {}, [[1]], "\ud800", 2**70]
    if kind == 0:
        for _ in range(source.randrange(1, 6)):
            line[source.randrange(len(line))] = source.randrange(256)
    elif kind == 1:
        line = line[: source.randrange(len(line))]
    elif kind == 2:
        line = bytearray(source.randbytes(source.randrange(200)))
    elif kind == 3:
        key = source.choice([*GOOD, "id", "other"])
        line = bytearray(json.dumps({**GOOD, key: source.choice(values)}).encode())
    elif kind == 4:
        observe = {source.choice(["observe3", "sample1", ""]): source.choice(values)}
        line = bytearray(json.dumps({**GOOD, "observe": observe}).encode())
    elif kind == 5:
        depth = source.randrange(1, 4000)
        line = bytearray(source.choice([b"[", b'{"observe":', b"-"]) * depth)
    elif kind == 6:
        word = source.choice([b"NaN", b"-Infinity", b"1e9999", b"1" * 5000, b"01"])
        line = bytearray(line.replace(b"0.25", word))
    return bytes(line).replace(b"\n", b" ")


def test_a_thousand_fuzzed_lines_leave_it_running(place):
    source = random.Random(7)
    lines = [fuzzed(source) for _ in range(998)]
    lines.insert(500, b"x" * (LINE_LIMIT + 1))
    good = json.dumps({**GOOD, "id": "last"}).encode()
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "flows", "serve"),
            *(place / "artifact", place / "graph.json", "--stdio"),
        ],
        input=b"\n".join([*lines, good]),
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert b"Traceback" not in ran.stderr
    answers = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(answers) == 1000
    for answer in answers:
        assert ("error" in answer) != ("latents" in answer)
    assert "too long" in answers[500]["error"]["what"]
    assert not [a for a in answers if "failed" in a.get("error", {}).get("what", "")]
    assert answers[-1]["id"] == "last"
    assert len(answers[-1]["log_q"]) == 5
    assert 100 < sum("latents" in answer for answer in answers) < 900


def test_each_answer_comes_before_the_next_request(place):
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "flows", "serve"),
            *(place / "artifact", place / "graph.json", "--stdio"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        for seed in range(3):
            process.stdin.write(json.dumps({**GOOD, "seed": seed}).encode() + b"\n")
            process.stdin.flush()
            assert len(json.loads(process.stdout.readline())["log_q"]) == 5
        process.stdin.close()
        assert process.stdout.read() == b""
        assert process.wait(timeout=30) == 0
