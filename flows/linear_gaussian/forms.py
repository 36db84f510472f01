r"""This file writes slots as linear forms of latents, coefficients being slots too.

    slot = rest + Σ_i coefficient_i · latent_i,

where neither the rest nor a coefficient reads one of the latents. Sets of latents are
bits of an integer: bit i is latent i.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ..model.dag import Dag

__all__ = ["LinearForm", "Readers", "linear_forms"]


@dataclass(frozen=True, slots=True)
class LinearForm:
    """A sum of latents with coefficients, and a rest.

    Attributes:
        rest: Slot of what is added.
        coefficients: Slot of each latent's factor, by number of the latent.
    """

    rest: int
    coefficients: Mapping[int, int]

    def numbered(self, number: Sequence[int]) -> "LinearForm":
        """Return the same with other numbers for latents."""
        own = {number[each]: slot for each, slot in self.coefficients.items()}
        return LinearForm(self.rest, own)


class Readers:
    """Which latents each slot of a DAG depends on.

    Args:
        dag: The operations.
        latents: Slots of the latents, by their numbers.
    """

    def __init__(self, dag: Dag, latents: Sequence[int]) -> None:
        self.dag = dag
        self.bits: list[int] = []
        own = {slot: 1 << number for number, slot in enumerate(latents)}
        for slot in range(len(dag)):
            found = own.get(slot, 0)
            for part in dag[slot].inputs:
                found |= self.bits[part]
            self.bits.append(found)

    def not_linear(self, slots: Iterable[int], gone: int = 0) -> int:
        """Return latents without which slots are linear in those that are left.

        Of a product's two sides the one with fewer latents is named.

        Args:
            slots: What is to be linear.
            gone: Latents that do not count.
        """
        for slot in self.below(slots, gone):
            operation = self.dag[slot]
            name, inputs = operation.name, operation.inputs
            read = [self.bits[part] & ~gone for part in inputs]
            match name:
                case "variable" | "affine":
                    continue
                case "multiply":
                    left, right = read
                    if left and right:
                        gone |= min(left, right, key=int.bit_count)
                case "divide":
                    gone |= read[1]
                case "choose":
                    gone |= read[0]
                case _:
                    gone |= self.bits[slot]
        return gone

    def below(self, slots: Iterable[int], gone: int = 0) -> list[int]:
        """Return slots and what they are made of, as far as that reads latents."""
        found: set[int] = set()
        stack = list(slots)
        while stack:
            slot = stack.pop()
            if slot in found or not self.bits[slot] & ~gone:
                continue
            found.add(slot)
            stack.extend(self.dag[slot].inputs)
        return sorted(found)


def linear_forms(
    dag: Dag, latents: Sequence[int], slots: Sequence[int], *, most: int
) -> list[LinearForm] | None:
    """Return slots as linear forms; None if they have more terms than `most`.

    Args:
        dag: The operations; those of rests and coefficients are added.
        latents: Slots of the latents, by their numbers.
        slots: Linear in these, as `Readers.not_linear` says.
        most: Terms of all slots on the way.

    Example:
        >>> dag = Dag()
        >>> x, s = dag.variable("x"), dag.variable("s")
        >>> product = dag.emit("multiply", (s, dag.affine([(x, 1.0)], 2.0)))
        >>> [form] = linear_forms(dag, [x], [product], most=10)
        >>> form.coefficients == {0: s}, dag[form.rest]
        (True, Operation(name='affine', inputs=(1,), attribute=((2.0,), 0.0)))
    """
    readers = Readers(dag, latents)
    number = {slot: place for place, slot in enumerate(latents)}
    zero = dag.constant(0.0)
    made: dict[int, LinearForm] = {}
    num_terms = 0

    def form(slot: int) -> LinearForm:
        return made.get(slot, LinearForm(slot, {}))

    for slot in readers.below(slots):
        operation = dag[slot]
        inputs = operation.inputs
        forms = [form(part) for part in inputs]
        match operation.name:
            case "variable":
                made[slot] = LinearForm(zero, {number[slot]: dag.constant(1.0)})
            case "affine":
                factors, bias = operation.attribute
                made[slot] = _sum(dag, forms, factors, bias)
            case "multiply":
                one, two = sorted(forms, key=lambda each: len(each.coefficients))
                made[slot] = _each(two, partial(_product, dag, one.rest))
            case "divide":
                made[slot] = _each(forms[0], partial(_ratio, dag, inputs[1]))
            case "choose":
                made[slot] = _choice(dag, inputs[0], forms[1], forms[2])
            case _:
                raise AssertionError(operation.name)
        num_terms += len(made[slot].coefficients)
        if num_terms > most:
            return None
    return [form(slot) for slot in slots]


def _sum(
    dag: Dag, forms: Sequence[LinearForm], factors: Sequence[float], bias: float
) -> LinearForm:
    weighed: dict[int, list[tuple[int, float]]] = {}
    for form, factor in zip(forms, factors, strict=True):
        for latent, slot in form.coefficients.items():
            weighed.setdefault(latent, []).append((slot, factor))
    rests = [(form.rest, factor) for form, factor in zip(forms, factors, strict=True)]
    coefficients = {each: dag.affine(own, 0.0) for each, own in weighed.items()}
    return LinearForm(dag.affine(rests, bias), coefficients)


def _each(form: LinearForm, change: Callable[[int], int]) -> LinearForm:
    coefficients = {each: change(slot) for each, slot in form.coefficients.items()}
    return LinearForm(change(form.rest), coefficients)


def _product(dag: Dag, one: int, two: int) -> int:
    for constant, other in ((one, two), (two, one)):
        if dag.is_constant(constant):
            return dag.affine([(other, dag.number(constant))], 0.0)
    return dag.emit("multiply", (one, two))


def _ratio(dag: Dag, below: int, above: int) -> int:
    if dag.is_constant(above) and dag.number(above) == 0.0:
        return above
    return dag.emit("divide", (above, below))


def _choice(dag: Dag, condition: int, one: LinearForm, two: LinearForm) -> LinearForm:
    zero = dag.constant(0.0)

    def chosen(left: int, right: int) -> int:
        return left if left == right else dag.emit("choose", (condition, left, right))

    latents = {**one.coefficients, **two.coefficients}
    coefficients = {
        each: chosen(one.coefficients.get(each, zero), two.coefficients.get(each, zero))
        for each in latents
    }
    return LinearForm(chosen(one.rest, two.rest), coefficients)
