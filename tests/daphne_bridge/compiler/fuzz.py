"""This file breaks programs at random and compiles them: a target for long runs.

    python -m tests.daphne_bridge.compiler.fuzz --seconds 600

A mutant is a program of the corpus or of the gallery with a few changes: characters and
tokens removed, doubled, swapped or replaced, pieces of two programs joined, brackets
nested. The compiler must return a document or raise the package's own error, within its
step bound; the slowest mutant and the peak of memory are reported.
"""

import argparse
import random
import re
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from daphne_bridge.compiler import (
    Limits,
    compile_program,
    desugar_program,
    factor_graph,
    show_edn,
)
from daphne_bridge.errors import BridgeError

__all__ = ["LIMITS", "Mutant", "check", "mutants", "seeds"]

ROOT = Path(__file__).parents[3]
LIMITS = Limits(steps=20_000, depth=2_000, guards=50, size=100_000)
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|;[^\n]*|[()\[\]{}]|[^\s()\[\]{}"]+|\s+')
WORDS = r"""
( ) [ ] { } ' #_ #( #{ " \a ^m @ ` ~ nil true false 0 -1 1 2 3.5 1/2 1e308 1N 2.5M
9223372036854775807 let if sample observe foreach loop defn do cond when -> quote fn
first rest last get nth conj put count range vec vector list map reduce filter apply
+ - * / < = and or not exp tanh mat-mul Math/floor normal flip discrete categorical
dirichlet mvn :k x f "s" & PI ##NaN
"""
SPICE = WORDS.split()
BRACKETS = frozenset("()[]{}")


@dataclass(frozen=True)
class Mutant:
    """A broken program, and the random seed that made it."""

    text: str
    seed: int


def seeds() -> list[str]:
    """Return the programs that are broken."""
    folders = (ROOT / "tests" / "golden" / "programs", ROOT / "clj-programs")
    paths = [p for folder in folders for p in sorted(folder.rglob("*.daphne"))]
    return [path.read_text() for path in paths]


def mutants(start: int) -> Iterator[Mutant]:
    """Return endless mutants; `start` is the first one's random seed."""
    programs = [TOKEN.findall(text) for text in seeds()]
    seed = start
    while True:
        rng = random.Random(seed)
        tokens = list(rng.choice(programs))
        for _ in range(rng.randint(1, 4)):
            tokens = _changed(tokens, programs, rng)
        text = "".join(tokens)
        if rng.random() < 0.2 and text:
            at = rng.randrange(len(text))
            text = (
                text[:at] + chr(rng.choice([0, 10, 34, 40, 92, 955])) + text[at + 1 :]
            )
        yield Mutant(text, seed)
        seed += 1


def _changed(
    tokens: list[str], programs: list[list[str]], rng: random.Random
) -> list[str]:
    if not tokens:
        return [rng.choice(SPICE)]
    i, j = sorted(rng.randrange(len(tokens) + 1) for _ in range(2))
    words = [k for k, token in enumerate(tokens) if token not in BRACKETS]
    if words and rng.random() < 0.7:
        i = rng.choice(words)
        j = max(i, j)
    word = f" {rng.choice(SPICE)} "
    match rng.randrange(8):
        case 0:
            return [*tokens[:i], *tokens[i + 1 :]]
        case 1:
            return [*tokens[:i], word, *tokens[i:]]
        case 2:
            return [*tokens[:i], word, *tokens[i + 1 :]]
        case 3:
            return [*tokens[:j], *tokens[i:]]
        case 4:
            other = rng.choice(programs)
            k = rng.randrange(len(other) + 1)
            return [*tokens[:i], *other[k : k + rng.randint(1, 30)], *tokens[j:]]
        case 5:
            depth = rng.choice([1, 3, 200])
            left, right = rng.choice([("(", ")"), ("[", "]"), ("(+ 1 ", ")")])
            return [*tokens[:i], left * depth, *tokens[i:j], right * depth, *tokens[j:]]
        case 6:
            k = rng.randrange(len(tokens))
            return [*tokens[:i], tokens[k], *tokens[i + 1 :]]
    return [rng.choice(tokens) if rng.random() < 0.02 else t for t in tokens]


def check(mutant: Mutant) -> bool:
    """Return whether a mutant compiles; anything but the package's error escapes."""
    program = (mutant.text, "mutant.daphne")
    problems = []
    try:
        document = compile_program(*program, limits=LIMITS).document
        factor_graph(*program, limits=LIMITS)
        show_edn(document)
    except BridgeError as error:
        problems.extend(error.problems)
    is_compiled = not problems
    try:
        desugar_program(*program)
    except BridgeError as error:
        problems.extend(error.problems)
    assert all(p.where.startswith("mutant.daphne:") for p in problems)
    return is_compiled


def main() -> None:
    """Break and compile programs for a while; print what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    end = time.monotonic() + arguments.seconds
    tried = compiled = 0
    slowest, slowest_seed = 0.0, 0
    for mutant in mutants(arguments.seed):
        start = time.monotonic()
        if start > end:
            break
        try:
            compiled += check(mutant)
        except BaseException:
            sys.stderr.write(f"seed {mutant.seed}:\n{mutant.text}\n")
            raise
        tried += 1
        elapsed = time.monotonic() - start
        if elapsed > slowest:
            slowest, slowest_seed = elapsed, mutant.seed
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(
        f"{tried} mutants, {compiled} compiled, slowest {slowest:.2f} s "
        f"(seed {slowest_seed}), peak {peak:.0f} MB\n"
    )


if __name__ == "__main__":
    main()
