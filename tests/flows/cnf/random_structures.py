"""This file draws random structures and fields with weights far from their start."""

import torch

from flows.cnf.vector_field import FieldConfig, VectorField
from flows.flow.structure import StateBlock, Structure


def random_structure(seed: int, *, nuisances: int = 0, vectors: bool = False):
    generator = torch.Generator().manual_seed(seed)

    def pick(high: int) -> int:
        return int(torch.randint(high, (1,), generator=generator))

    blocks = []
    column = 0
    for position in range(5):
        width = 1 + pick(3) if vectors else 1
        parents = tuple(j for j in range(position) if pick(2))
        columns = tuple(c for c in range(3) if pick(2))
        free = tuple(range(column, column + width))
        blocks.append(StateBlock(f"n{position}", free, nuisances, parents, columns))
        column += width
    return Structure(tuple(blocks), 3)


def random_field(structure: Structure, seed: int, config: FieldConfig) -> VectorField:
    generator = torch.Generator().manual_seed(seed)
    field = VectorField(structure, config, generator=generator).double()
    with torch.no_grad():
        for parameter in field.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(0.5 * noise)
    return field


CASES = {
    "scalars": (0, False, FieldConfig(hidden=4, last_layer_scale=1.0)),
    "cliques": (2, False, FieldConfig(hidden=0, last_layer_scale=1.0)),
    "residual": (0, False, FieldConfig(hidden=4, residual=True, last_layer_scale=1.0)),
    "residual cliques": (
        1,
        False,
        FieldConfig(hidden=5, residual=True, last_layer_scale=1.0),
    ),
    "vectors": (1, True, FieldConfig(hidden=4, residual=True, last_layer_scale=1.0)),
    "two layers": (0, True, FieldConfig(layers=2, hidden=3, last_layer_scale=1.0)),
}


def case(name: str, seed: int) -> tuple[Structure, VectorField]:
    nuisances, vectors, config = CASES[name]
    structure = random_structure(seed, nuisances=nuisances, vectors=vectors)
    return structure, random_field(structure, seed, config)
