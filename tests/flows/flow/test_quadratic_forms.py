"""Tests of flows.flow.quadratic_forms; where they begin: `test_directions.py`."""

import math

import torch

from flows.flow.quadratic_forms import QuadraticForms, lengths_of_forms

READS = [(0, 2), (3, 1, 0)]


def _made(reads=READS, num=3, units=4):
    generator = torch.Generator().manual_seed(0)
    made = QuadraticForms(reads, num, units, generator).double()
    return made.requires_grad_(False)


def test_units_are_given_logarithms_of_sums_of_squares_of_what_is_read():
    made = _made()
    for seed, each in enumerate(made.parameters()):
        generator = torch.Generator().manual_seed(seed)
        each.copy_(torch.randn(each.shape, generator=generator))
    rows = torch.randn(5, 4, generator=torch.Generator().manual_seed(9)).double()
    found = made(rows)
    assert found.shape == (2, 5, 4)
    start = 0
    for network, reads in enumerate(READS):
        for row in range(5):
            forms = [0.0] * 3
            for d in range(24):
                seen = sum(
                    float(rows[row, c] * made.directions[start + i, d])
                    for i, c in enumerate(reads)
                )
                for k in range(3):
                    forms[k] += float(made.weights[network, d, k]) ** 2 * seen**2
            for unit in range(4):
                expected = sum(
                    0.5 * math.log(1e-6 + forms[k]) * float(made.last[network, k, unit])
                    for k in range(3)
                )
                assert math.isclose(
                    float(found[network, row, unit]), expected, rel_tol=1e-9
                )
        start += len(reads)


def test_what_is_not_read_changes_nothing():
    made, rows = _made([(0, 2)]), torch.ones(2, 4).double()
    other = rows.clone()
    other[:, [1, 3]] = torch.nan
    torch.testing.assert_close(made(rows), made(other))


def test_forms_begin_with_mean_one_along_what_tells_a_latent():
    """Data of one scale around a level: the scale's form leaves the level out."""
    generator = torch.Generator().manual_seed(5)

    def drawn(*size):
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    scale = torch.exp(0.5 * drawn(8_000, 1))
    data = drawn(8_000, 1) + 0.1 * scale * drawn(8_000, 6)
    data[3, 2], data[4, 0] = torch.nan, 1e30
    made = _made([(0, 1, 2, 3, 4, 5)], num=4)
    made.begin(data, [scale.log()], generator)
    level = made.directions.sum(0) @ made.weights[0].square()
    seen = (data[10:] @ made.directions).square()
    forms = seen @ made.weights[0].square()
    torch.testing.assert_close(
        forms.mean(0), torch.ones(4, dtype=torch.float64), rtol=0.15, atol=0
    )
    spread = (data[10:] - data[10:].mean(1, keepdim=True)).square().sum(1).log()
    told = torch.corrcoef(torch.stack([forms[:, 0].log(), spread]))[0, 1]
    assert float(told) > 0.98
    assert abs(float(level[0])) < 0.05


def test_forms_of_too_many_or_too_few_draws_stay_as_they_are():
    for count, width in ((3, 4), (2_000, 1_001)):
        reads = [tuple(range(width))]
        made, plain = _made(reads), _made(reads)
        generator = torch.Generator().manual_seed(1)
        rows = torch.randn(count, width, generator=generator)
        made.begin(rows, [rows[:, :1]], generator)
        torch.testing.assert_close(made.directions, plain.directions)


def test_lengths_are_those_of_the_weights():
    made = _made()
    assert lengths_of_forms("of", READS, 3, 4) == {
        f"of.{name}": each.numel() for name, each in made.named_parameters()
    }


def test_data_far_beyond_single_precision_give_numbers():
    made = _made([(0, 1)]).float()
    rows = torch.tensor([[1e25, -1e30], [1.0, 2.0]])
    found = made(rows)
    assert found.isfinite().all()
    torch.testing.assert_close(found[0, 1], made(rows[1:])[0, 0])
