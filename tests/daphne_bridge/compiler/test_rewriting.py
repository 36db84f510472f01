"""Tests of the compiler against an oracle that rewrites program text (`rewriting`)."""

import json
from pathlib import Path

import pytest

from daphne_bridge.compiler import compile_program

from ...golden.comparison import difference
from .plain_programs import plain_program
from .rewriting import rewritten

GOLDEN = Path(__file__).parents[2] / "golden"
INDEX = json.loads((GOLDEN / "programs" / "index.json").read_text())
GOOD = sorted(name for name, entry in INDEX.items() if entry["kind"] == "good")
MIXED = (GOLDEN / "mixed.txt").read_text().strip().split("\n\n")
LONGEST = 900
"""Characters of a drawn program; the oracle takes seconds for longer ones."""


@pytest.mark.parametrize("name", [name for name in GOOD if name != "conv_9x9_3"])
def test_rewriting_gives_the_original_documents(name):
    text = (GOLDEN / "programs" / f"{name}.daphne").read_text()
    theirs = json.loads((GOLDEN / "programs" / f"{name}.json").read_text())
    assert difference(rewritten(text), theirs) == ""


@pytest.mark.parametrize("text", MIXED, ids=lambda text: text[:50])
def test_features_that_meet_give_the_rewritten_document(text):
    ours = compile_program(text, "mixed.daphne").document
    assert difference(ours, rewritten(text)) == ""


@pytest.mark.parametrize("decade", range(12))
def test_drawn_programs_give_the_rewritten_document(decade):
    texts = [plain_program(seed) for seed in range(10 * decade, 10 * decade + 10)]
    short = [text for text in texts if len(text) <= LONGEST]
    assert short, "every drawn program is too long"
    for text in short:
        ours = compile_program(text, "drawn.daphne").document
        assert difference(ours, rewritten(text)) == "", text
