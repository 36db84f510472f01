"""Directed acyclic graphs for the tests of inversion: random, exhaustive, and named."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product

from hypothesis import strategies as st

Parents = dict[str, list[str]]


@dataclass(frozen=True)
class Example:
    """Nodes in program order, their parents, and which are observed."""

    names: list[str]
    parents: Parents
    observed: list[str]

    @property
    def latents(self) -> list[str]:
        return [name for name in self.names if name not in self.observed]


@st.composite
def dags(draw: st.DrawFn, most_nodes: int) -> Example:
    """Draw a graph whose program order is any order, not only a topological one."""
    count = draw(st.integers(1, most_nodes))
    names = [f"n{i}" for i in range(count)]
    hidden_order = draw(st.permutations(names))
    share = draw(st.sampled_from([2, 3, 5]))
    parents = {
        name: [
            other for other in hidden_order[:i] if draw(st.integers(0, share - 1)) == 0
        ]
        for i, name in enumerate(hidden_order)
    }
    observed = [name for name in names if draw(st.integers(0, 2)) == 0]
    return Example(names, parents, observed)


def all_dags(count: int) -> Iterator[Example]:
    """Yield every graph of `count` nodes with every choice of observed nodes.

    Every directed acyclic graph is one of these after a renaming, as each has an order
    with parents first.
    """
    names = [f"n{i}" for i in range(count)]
    pairs = list(combinations(names, 2))
    for chosen in product([False, True], repeat=len(pairs)):
        parents: Parents = {name: [] for name in names}
        for (parent, child), is_edge in zip(pairs, chosen, strict=True):
            if is_edge:
                parents[child].append(parent)
        for kinds in product([False, True], repeat=count):
            observed = [n for n, seen in zip(names, kinds, strict=True) if seen]
            yield Example(names, parents, observed)


def arithmetic_circuit() -> Example:
    """The published example: six latents, two observed nodes, z2 without data."""
    return Example(
        ["z0", "z1", "z2", "z3", "z4", "z5", "x0", "x1"],
        {
            "z0": [],
            "z1": [],
            "z2": ["z0", "z1"],
            "z3": ["z0", "z1"],
            "z4": [],
            "z5": ["z3", "z4"],
            "x0": ["z3"],
            "x1": ["z5"],
        },
        ["x0", "x1"],
    )


def state_space(num_steps: int) -> Example:
    """A chain of latents, each with one observed child."""
    names = [f"{kind}{t}" for t in range(num_steps) for kind in "zx"]
    parents: Parents = {}
    for t in range(num_steps):
        parents[f"z{t}"] = [f"z{t - 1}"] if t else []
        parents[f"x{t}"] = [f"z{t}"]
    return Example(names, parents, [f"x{t}" for t in range(num_steps)])


def binary_tree(num_nodes: int) -> Example:
    """A complete binary tree from the root, its leaves observed."""
    names = [f"n{i}" for i in range(num_nodes)]
    parents = {f"n{i}": [f"n{(i - 1) // 2}"] if i else [] for i in range(num_nodes)}
    leaves = [f"n{i}" for i in range(num_nodes) if 2 * i + 1 >= num_nodes]
    return Example(names, parents, leaves)


def convolution(size: int, stride: int, *, has_filter: bool, width: int = 3) -> Example:
    """Latent pixels under a square filter, latent or known; observed outputs."""
    square = list(product(range(width), repeat=2))
    weights = [f"w{a}_{b}" for a, b in square] if has_filter else []
    pixels = [f"p{i}_{j}" for i, j in product(range(size), repeat=2)]
    parents: Parents = {name: [] for name in weights + pixels}
    outputs = []
    for i, j in product(range((size - width) // stride + 1), repeat=2):
        patch = [f"p{i * stride + a}_{j * stride + b}" for a, b in square]
        parents[f"y{i}_{j}"] = weights + patch
        outputs.append(f"y{i}_{j}")
    return Example(weights + pixels + outputs, parents, outputs)


def groups(num_groups: int) -> Example:
    """Two shared latents over many groups, each a latent with one observation."""
    names = ["mean", "scale"]
    parents: Parents = {"mean": [], "scale": []}
    for i in range(num_groups):
        names += [f"z{i}", f"x{i}"]
        parents[f"z{i}"] = ["mean", "scale"]
        parents[f"x{i}"] = [f"z{i}"]
    return Example(names, parents, [f"x{i}" for i in range(num_groups)])


def regression(num_points: int, num_weights: int = 6) -> Example:
    """Latent weights, each a parent of all observed points."""
    weights = [f"w{i}" for i in range(num_weights)]
    points = [f"y{i}" for i in range(num_points)]
    parents: Parents = {name: [] for name in weights}
    parents |= dict.fromkeys(points, weights)
    return Example(weights + points, parents, points)
