"""This file looks for an order of elimination that gives an inverse with few edges.

All candidates advance together, the one with the least work first, so a cheap candidate
is never kept waiting by a dear one. Work is counted in set operations, not in seconds,
so the outcome is the same on every machine. Up to `FREE_WORK` every candidate goes on;
after that a candidate stops as soon as it has more edges than a finished one; after the
budget all stop as soon as one is finished. The published rule and the program's order
run first; the other rules start after them, and stop at half of the budget.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .elimination import (
    Elimination,
    as_set,
    markov_boundary,
    members,
    moral_neighbours,
)
from .elimination_plans import RULES, Dag, Key, Mode, Plan, plans_for

__all__ = ["DEFAULT_WORK", "FREE_WORK", "Candidate", "Elected", "search"]

FREE_WORK, DEFAULT_WORK = 400_000, 12_000_000

_FIRST_RULES = ("min-fill", "program order")
"""Rules whose candidates are finished or stopped before the others start."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a plan gave.

    Attributes:
        plan: The way of inverting.
        edges: Number of edges of the minimal inverse; None if stopped before its end.
        removable: Edges that the elimination gave on top of those, each of which could
            go; None if stopped.
    """

    plan: Plan
    edges: int | None
    removable: int | None


@dataclass(frozen=True, slots=True)
class Elected:
    """The best outcome of a search.

    Attributes:
        order: The latents, first eliminated first.
        parents: Parents in the inverse, bit sets, in the same order.
        candidate: How it came about.
        candidates: All that were tried.
    """

    order: tuple[int, ...]
    parents: tuple[int, ...]
    candidate: Candidate
    candidates: tuple[Candidate, ...]


def search(
    dag: Dag, plans: Sequence[Plan] = (), *, work: int = DEFAULT_WORK
) -> Elected:
    """Return the inverse with the fewest edges; among equals the one tried first.

    Args:
        dag: The model's graph.
        plans: What to try; by default every mode with every rule.
        work: Set operations after which no candidate goes on once one is finished.
    """
    plans = plans or plans_for(dag)
    cores = {dag.core(plan.barren) for plan in plans}
    moral = {core: moral_neighbours(dag.parents, core) for core in cores}
    have_latent_edges = {core: dag.has_latent_edges(core) for core in cores}
    runs: dict[Plan, _Run] = {}
    run_of: list[_Run] = []
    for plan in plans:
        core = dag.core(plan.barren)
        key = plan
        if not have_latent_edges[core] and plan.rule != "program order":
            key = Plan("topological", plan.rule, plan.barren)
        if key not in runs:
            runs[key] = _Run(dag, moral[core], key)
        run_of.append(runs[key])
    _race(list(runs.values()), work)
    candidates = tuple(
        Candidate(plan, run.edges, run.removable)
        if run.is_finished
        else Candidate(plan, None, None)
        for plan, run in zip(plans, run_of, strict=True)
    )
    finished = [place for place, run in enumerate(run_of) if run.is_finished]
    best = min(finished, key=lambda place: run_of[place].edges)
    return Elected(
        tuple(run_of[best].order),
        tuple(run_of[best].parents),
        candidates[best],
        candidates,
    )


def _race(runs: "Sequence[_Run]", work: int) -> None:
    """Advance the runs, least work first, until each is finished or stopped."""
    waiting = sorted(
        (run.plan.rule not in _FIRST_RULES, 0, place) for place, run in enumerate(runs)
    )
    spent = 0
    fewest: int | None = None
    while waiting:
        is_later, before, place = heapq.heappop(waiting)
        run = runs[place]
        limit = work // 2 if is_later else work
        if fewest is not None and (
            spent > limit or (spent > FREE_WORK and run.edges > fewest)
        ):
            continue
        run.advance()
        spent += run.work - before
        if run.is_finished:
            fewest = run.edges if fewest is None else min(fewest, run.edges)
        else:
            heapq.heappush(waiting, (is_later, run.work, place))


class _Run:
    """One candidate on its way: `advance` eliminates one latent.

    Attributes:
        plan: The way of inverting.
        order: The latents eliminated so far.
        parents: Their parents in the inverse, bit sets.
        edges: Number of edges so far, the removable ones included until the end.
        removable: How many of them were found to be removable.
        work: Set operations so far.
        is_finished: Whether the inverse is complete and minimal.
    """

    def __init__(self, dag: Dag, moral: Sequence[int], plan: Plan) -> None:
        self.plan = plan
        self.order: list[int] = []
        self.parents: list[int] = []
        self.edges = 0
        self.removable = 0
        self.work = 0
        self.is_finished = False
        self._dag = dag
        self._moral = moral
        self._steps = self._run()

    def advance(self) -> None:
        """Go one step further."""
        self.is_finished = next(self._steps, None) is None

    def _run(self) -> Iterator[int]:
        if self.plan.barren == "from prior":
            yield from self._sample_barren_from_prior()
        yield from self._eliminate()
        if self.plan.barren == "in turn" and self._dag.barren_marry:
            yield from self._minimise()

    def _sample_barren_from_prior(self) -> Iterator[int]:
        for node in reversed(self._dag.order):
            if self._dag.barren >> node & 1:
                self._add(node, as_set(self._dag.parents[node]))
                self.work += 1
        yield self.work

    def _eliminate(self) -> Iterator[int]:
        core = self._dag.core(self.plan.barren)
        elimination = Elimination(self._moral, core)
        queue = _Queue(elimination, self.plan)
        latents = core & self._dag.latents
        before = self.work
        for part in (latents & self._dag.summed_out, latents & ~self._dag.summed_out):
            frontier = _Frontier(self._dag, part, self.plan.mode)
            queue.add(frontier.eligible)
            yield from self._eliminate_all(elimination, frontier, queue, before)

    def _eliminate_all(
        self,
        elimination: Elimination,
        frontier: "_Frontier",
        queue: "_Queue",
        before: int,
    ) -> Iterator[int]:
        while frontier.eligible:
            for _ in queue.update(frontier.eligible):
                self.work = before + elimination.work + len(self.order)
                yield self.work
            node = queue.first(frontier.eligible)
            queue.mark_changes(node, frontier.eligible)
            near = elimination.eliminate(node)
            self._add(node, near)
            queue.add(frontier.take(node))
            self.work = before + elimination.work + len(self.order)
            yield self.work

    def _minimise(self) -> Iterator[int]:
        boundaries = markov_boundary(self._dag.parents, self._dag.latents, self.order)
        for place, (boundary, work) in enumerate(boundaries):
            self.removable += (self.parents[place] & ~boundary).bit_count()
            self.parents[place] = boundary
            self.work += work
            yield self.work
        self.edges -= self.removable

    def _add(self, node: int, parents: int) -> None:
        self.order.append(node)
        self.parents.append(parents)
        self.edges += parents.bit_count()


class _Frontier:
    """The latents that may go next.

    Attributes:
        eligible: A bit set.
    """

    def __init__(self, dag: Dag, latents: int, mode: Mode) -> None:
        self._releases: dict[int, list[int]] = {node: [] for node in members(latents)}
        self._waits_for = dict.fromkeys(self._releases, 0)
        for node in self._releases:
            for parent in dag.parents[node]:
                if parent in self._releases and mode != "any order":
                    first, then = parent, node
                    if mode == "reverse":
                        first, then = node, parent
                    self._releases[first].append(then)
                    self._waits_for[then] += 1
        self.eligible = as_set([n for n, count in self._waits_for.items() if not count])

    def take(self, node: int) -> int:
        """Remove a node and return those that become eligible by it."""
        released = 0
        for after in self._releases[node]:
            self._waits_for[after] -= 1
            if not self._waits_for[after]:
                released |= 1 << after
        self.eligible = self.eligible & ~(1 << node) | released
        return released


class _Queue:
    """The eligible latents by their key, counted anew only where it changes.

    That is when a neighbour is eliminated, or when two neighbours become adjacent.
    """

    def __init__(self, elimination: Elimination, plan: Plan) -> None:
        self._elimination = elimination
        self._rule = RULES[plan.rule]
        self._needs_fill = plan.rule != "program order"
        self._sign = -1 if plan.mode == "reverse" and not self._needs_fill else 1
        self._keys: dict[int, Key] = {}
        self._fills: dict[int, int] = {}
        self._heap: list[tuple[Key, int]] = []
        self._stale = 0

    def add(self, nodes: int) -> None:
        """Take in nodes that have become eligible."""
        self._stale |= nodes

    def update(self, eligible: int) -> Iterator[int]:
        """Bring the keys up to date, if there is a choice; yield after each node."""
        stale, self._stale = self._stale, 0
        if eligible.bit_count() == 1:
            return
        for node in members(stale):
            key = self._key(node)
            if self._keys.get(node) != key:
                self._keys[node] = key
                heapq.heappush(self._heap, (key, node))
            yield node

    def first(self, eligible: int) -> int:
        """Remove and return the node that goes next; the keys are up to date."""
        if eligible.bit_count() == 1:
            node = eligible.bit_length() - 1
            self._keys.pop(node, None)
            return node
        while True:
            key, node = heapq.heappop(self._heap)
            if self._keys.get(node) == key:
                del self._keys[node]
                return node

    def mark_changes(self, node: int, eligible: int) -> None:
        """Note whose key the coming elimination of `node` changes."""
        others = eligible & ~(1 << node)
        if not self._needs_fill or not others:
            return
        self._stale |= self._elimination.neighbours(node) & others
        if self._fills.pop(node, 1):
            self._stale |= self._elimination.joined_around(node, others)

    def _key(self, node: int) -> Key:
        if not self._needs_fill:
            return self._rule(0, 0, self._sign * node)
        fill = self._elimination.fill(node)
        self._fills[node] = fill
        degree = self._elimination.neighbours(node).bit_count()
        return self._rule(fill, degree, node)
