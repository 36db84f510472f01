"""This file gives every call of an expression the address of where it happens.

    (f a)        ->  (f (push-address alpha addr0) a)
    (fn [x] b)   ->  (fn [alpha x] b)

A function's first argument is the address that it is called at, to which each call in
it adds its own number: equal addresses are the same random choice in two runs.

References:
    van de Meent, Paige, Yang, Wood, "An Introduction to Probabilistic Programming"
    (2018), section 6.2, https://arxiv.org/abs/1809.10756
"""

from .forms import Compound, Form, Symbol, head_name
from .hoppl import Fresh, call, function
from .recursion import Recursive, each, run

__all__ = ["with_addresses"]


def with_addresses(form: Form, address: Symbol, fresh: Fresh) -> Form:
    """Return an expression of functions whose calls have addresses.

    Args:
        form: As `hoppl` makes it.
        address: Name of the address at which the expression is evaluated.
        fresh: Numbers the calls.
    """
    return run(_at(form, address, fresh))


def _at(form: Form, address: Symbol, fresh: Fresh) -> Recursive[Form]:
    if not isinstance(form, Compound):
        return form
    head, *rest = form.items
    if head_name(form) == "fn":
        parameters, body = rest
        assert isinstance(parameters, Compound)  # noqa: S101 - made by `function`
        return function([address, *parameters.items], (yield _at(body, address, fresh)))
    parts: list[Form] = [head]
    if head_name(form) != "if":
        place = call(Symbol("push-address"), address, fresh("addr"))
        parts = [(yield _at(head, address, fresh)), place]
    return call(*parts, *(yield each(_at(part, address, fresh) for part in rest)))
