"""This file gives every family of the language its density and its sampler in torch.

Tensors carry the slot (one node) first and the row (one draw) last: a scalar value has
shape [slot, row], a vector [slot, d, row], a matrix [slot, d, d, row], parameters
likewise; any slot or row dimension may be 1. Conventions are those of
`daphne_bridge.language.families`: `normal` has a standard deviation, `gamma`,
`exponential` and `poisson` a rate, `mvn` a covariance; `uniform-discrete` excludes its
maximum. Log densities in nats.

A new family is an entry of a table of the bridge and of one table here. Free
coordinates, checks of data and the kind of a value follow from its support.

Outside the support a log density is -inf, with gradient zero. Where a parameter has no
meaning it is nan; `Parameter.is_valid` says which one, and the model turns it into an
error that names the node.

References:
    Johnson, Kotz, Balakrishnan, "Continuous univariate distributions" (1994, 1995).
"""

from collections.abc import Mapping
from types import MappingProxyType

from daphne_bridge.language.families import FAMILIES

from .bounded import BOUNDED
from .counts import COUNTS
from .density import Density
from .on_the_line import ON_THE_LINE
from .parameters import Parameter
from .positive import POSITIVE_FAMILIES
from .vectors import VECTORS

__all__ = ["DENSITIES", "Density", "Parameter", "Shape", "event_shape"]

Shape = tuple[int, ...]

_ALL = (*ON_THE_LINE, *POSITIVE_FAMILIES, *BOUNDED, *COUNTS, *VECTORS)

DENSITIES: Mapping[str, Density] = MappingProxyType({d.family.name: d for d in _ALL})
"""Every family of `daphne_bridge.language.families.FAMILIES`."""


def event_shape(name: str, shapes: tuple[Shape, ...]) -> Shape:
    """Return the shape of one draw, given the shapes of the parameters."""
    match FAMILIES[name].event:
        case "scalar":
            return ()
        case "vector":
            return next(shape for shape in shapes if len(shape) == 1)
        case "matrix":
            return next(shape for shape in shapes if len(shape) == 2)
