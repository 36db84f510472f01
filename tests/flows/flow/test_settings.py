"""Tests of flows.flow.settings."""

from dataclasses import dataclass

import pytest

from flows.flow.settings import bounded, choice, read_settings

LONG = "a" * 5_000
SHORT = f"got '{LONG[:56]}..."


@dataclass(frozen=True)
class _Oven:
    degrees: float = bounded(180.0, 30, 300)
    trays: int = bounded(1, 0, 4)
    mode: str = choice("bake", "grill")
    is_fan: bool = False
    dish: object = None


def test_right_settings_are_read_and_numbers_become_real():
    values, problems = read_settings(
        _Oven, {"degrees": 200, "trays": 2, "mode": "grill", "is_fan": True}, "oven"
    )
    assert problems == []
    assert values == {"degrees": 200.0, "trays": 2, "mode": "grill", "is_fan": True}
    assert isinstance(values["degrees"], float)


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"degrees": 400}, "oven, degrees: out of bounds; expected 30 <= value <= 300"),
        ({"degrees": float("nan")}, "oven, degrees: out of bounds; expected 30 <="),
        ({"trays": True}, "oven, trays: wrong type; expected a whole number; got True"),
        ({"trays": 1.0}, "oven, trays: wrong type; expected a whole number; got 1.0"),
        ({"is_fan": 1}, "oven, is_fan: wrong type; expected true or false; got 1"),
        ({"mode": "fry"}, "oven, mode: unknown mode; expected one of bake, grill; got"),
        ({LONG: 3}, f"oven, {LONG[:57]}...: unknown key; expected one of degrees,"),
        ({"trays": LONG}, f"oven, trays: wrong type; expected a whole number; {SHORT}"),
        ({"dish": 3}, "oven, dish: unknown key; expected one of degrees, is_fan, mode"),
        (
            {"tray": 3},
            "oven, tray: unknown key; expected one of degrees, is_fan, mode, trays, "
            "perhaps trays; got 'tray'",
        ),
    ],
)
def test_wrong_setting_is_a_problem_with_its_place(entry, sentence):
    values, (problem,) = read_settings(_Oven, entry, "oven", apart=("dish",))
    assert values == {}
    assert str(problem).startswith(sentence)
