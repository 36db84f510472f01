r"""This file computes the exact divergence of the vector field, node by node.

The pattern of every layer is an acyclic graph over the blocks plus the diagonal, so
every path through the layers from a column of block i back to block i stays inside
block i. With D_{l,i} the slopes of layer l in block i, that is gate * (1 - tanh^2) for
a hidden layer and gate for the last,

    tr d f_i / d z_i = tr( D_{L,i} W_{L,ii} ... D_{1,i} W_{1,ii} ),

a product of small blocks. A residual connection adds the identity to a layer's factor.
The trace is found in forward mode, batched over the blocks of equal size.

References:
    Weilbach et al., AISTATS 2020, section 3 (the structure that makes it exact).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from .vector_field import DenseField, Gates, SizeGroup

__all__ = ["Slopes", "divergence_per_node", "slopes_of"]


Slopes = tuple[Tensor, ...]
"""D_l of the hidden layers, their blocks' diagonals side by side."""


def slopes_of(values: tuple[Tensor, ...], gates: Gates) -> Slopes:
    """Slopes of the hidden layers.

    Args:
        values: tanh values of the hidden layers, as `evaluate_field` returns them.
        gates: the gates they were computed with.
    """
    return tuple(
        torch.addcmul(factor, factor, value * value, value=-1.0)
        for value, factor in zip(values, gates.factors[:-1], strict=True)
    )


def divergence_per_node(
    field: DenseField, slopes: Slopes, gates: Gates
) -> Float[Tensor, "*batch node"]:
    """Trace of each diagonal block of the field's Jacobian, in sampling order.

    Args:
        field: the network.
        slopes: of the hidden layers, as `slopes_of` returns them.
        gates: the gates they were computed with.
    """
    batch = slopes[0].shape[:-1]
    last = gates.factors[-1].expand(*batch, -1)
    traces = [_group_trace(field, group, slopes, last) for group in field.groups]
    if len(traces) == 1:
        return traces[0].view(*batch, field.num_nodes)
    order = torch.argsort(torch.cat([group.nodes for group in field.groups]))
    return torch.cat(traces, -1)[:, order].view(*batch, field.num_nodes)


def _group_trace(
    field: DenseField, group: SizeGroup, slopes: Slopes, last: Tensor
) -> Tensor:
    """Traces of the blocks of one size, [row, node]."""
    count = group.nodes.numel()
    is_all = count == field.num_nodes

    def blocks(array: Tensor, columns: Tensor) -> Tensor:
        """[..., column] -> [node, row, column of the block]."""
        chosen = array if is_all else array.index_select(-1, columns)
        blocks = chosen.reshape(-1, count, columns.numel() // count)
        return blocks.transpose(0, 1).contiguous()

    # tangent[node, row, state column, hidden column] = d hidden / d state
    first = group.diagonal[0].transpose(1, 2).unsqueeze(1)
    tangent = first * blocks(slopes[0], group.hidden_columns).unsqueeze(2)
    shape = tangent.shape
    for layer in range(1, len(slopes)):
        slope = blocks(slopes[layer], group.hidden_columns).unsqueeze(2)
        flat = tangent.reshape(count, -1, shape[-1])
        product = torch.bmm(flat, group.diagonal[layer].transpose(1, 2)).view(shape)
        step = slope * product
        tangent = tangent + step if field.residual else step
    gate = blocks(last, group.state_columns)
    per_column = (tangent * group.diagonal[-1].unsqueeze(1)).sum(-1)
    return (per_column * gate).sum(-1).transpose(0, 1)
