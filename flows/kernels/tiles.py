"""This file gives Numba code vectors of 16 float32 lanes.

`Vector` values are loaded, combined with ``+ - * /`` and stored, in LLVM's vector
instructions; a product that is added becomes one fused multiply-add. On a processor
without 16-lane registers LLVM splits the vectors.
"""

# ruff: noqa: ARG001  (an intrinsic's arguments reach its builder by position)

import operator
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba
from llvmlite import binding, ir
from numba.core import config, types
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

__all__ = [
    "BITS",
    "LANES",
    "OPTIONS",
    "REGISTER",
    "VECTOR",
    "address",
    "compiled",
    "exp",
    "has_wide_registers",
    "inlined",
    "load",
    "log",
    "log_of_one_more",
    "maximum",
    "read_vector",
    "splat",
    "spread",
    "store",
    "tanh",
    "target",
    "write_vector",
]

LANES = 16
_FAST = ("contract",)
_FLOAT = ir.FloatType()
VECTOR = ir.VectorType(_FLOAT, LANES)
BITS = ir.VectorType(ir.IntType(32), LANES)
P = ParamSpec("P")
R = TypeVar("R")
OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract"},
}
"""How every function of the kernel is compiled."""


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """The function, compiled by Numba when it is first called."""
    return cast("Callable[P, R]", numba.njit(**OPTIONS)(function))


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """The function, written by Numba into the functions that call it."""
    return cast("Callable[P, R]", numba.njit(inline="always", **OPTIONS)(function))


def target() -> tuple[str, str]:
    """Processor that machine code is made for, and its instruction sets."""
    settings: Any = config  # its fields are made at run time
    name = settings.CPU_NAME or binding.get_host_cpu_name()
    features = settings.CPU_FEATURES
    if features is None:
        features = binding.get_host_cpu_features().flatten()
    return str(name), str(features)


def has_wide_registers() -> bool:
    """Whether a register holds 16 lanes."""
    return "+avx512f" in target()[1].split(",")


REGISTER = LANES if has_wide_registers() else LANES // 2
"""Lanes of a register."""


class _VectorType(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Vector16")


vector = _VectorType()


@register_model(_VectorType)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, VECTOR)


def spread(builder: Any, scalar: Any, lanes: int = LANES) -> Any:
    """Code for a vector whose lanes all hold ``scalar``."""
    undefined = ir.Constant(ir.VectorType(_FLOAT, lanes), ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(first, undefined, zeros)


def _as_vector(context: Any, builder: Any, value: Any, kind: Any) -> Any:
    if kind == vector:
        return value
    return spread(builder, context.cast(builder, value, kind, types.float32))


_OPERAND_KINDS = [
    (vector, vector),
    (vector, types.float32),
    (types.float32, vector),
    (vector, types.float64),
    (types.float64, vector),
]


def _define_operator(symbol: Any, instruction: str) -> None:
    """Teach Numba ``symbol`` on vectors, or on a vector and a number."""

    class _Typing(ConcreteTemplate):  # type: ignore[misc]
        key = symbol
        cases = [signature(vector, *kinds) for kinds in _OPERAND_KINDS]  # noqa: RUF012

    infer_global(symbol)(_Typing)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        left, right = (
            _as_vector(context, builder, value, kind)
            for value, kind in zip(args, sig.args, strict=True)
        )
        return getattr(builder, instruction)(left, right, flags=_FAST)

    for kinds in _OPERAND_KINDS:
        lower_builtin(symbol, *kinds)(lower)


for _symbol, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _define_operator(_symbol, _instruction)


def address(context: Any, builder: Any, kind: Any, array: Any, offset: Any) -> Any:
    """Pointer to a float array's element."""
    data = context.make_array(kind)(context, builder, value=array).data
    return builder.gep(data, [offset])


def read_vector(builder: Any, pointer: Any, lanes: int = LANES) -> Any:
    """Code that reads a vector's numbers."""
    kind = ir.VectorType(_FLOAT, lanes).as_pointer()
    return builder.load(builder.bitcast(pointer, kind), align=4)


def write_vector(builder: Any, value: Any, pointer: Any) -> None:
    """Code that writes a vector's numbers."""
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=4)


@intrinsic  # type: ignore[untyped-decorator]
def load(typing: Any, array: Any, offset: Any) -> Any:
    """The 16 numbers of ``array`` from ``offset``."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return read_vector(
            builder, address(context, builder, sig.args[0], args[0], args[1])
        )

    return vector(array, types.int64), build


@intrinsic  # type: ignore[untyped-decorator]
def store(typing: Any, array: Any, offset: Any, value: Any) -> Any:
    """Write 16 numbers to ``array`` from ``offset``."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = address(context, builder, sig.args[0], args[0], args[1])
        write_vector(builder, args[2], pointer)
        return context.get_dummy_value()

    return types.void(array, types.int64, vector), build


@intrinsic  # type: ignore[untyped-decorator]
def splat(typing: Any, scalar: Any) -> Any:
    """A vector whose lanes all hold ``scalar``."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _as_vector(context, builder, args[0], sig.args[0])

    return vector(scalar), build


@intrinsic  # type: ignore[untyped-decorator]
def _clamp(typing: Any, value: Any, bound: Any) -> Any:
    """Lanes cut to [-bound, bound]; nan stays nan."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        upper = _as_vector(context, builder, args[1], sig.args[1])
        lower = builder.fsub(ir.Constant(VECTOR, [0.0] * LANES), upper)
        result = args[0]
        above = builder.fcmp_ordered(">", result, upper)
        result = builder.select(above, upper, result)
        below = builder.fcmp_ordered("<", result, lower)
        return builder.select(below, lower, result)

    return vector(vector, bound), build


@intrinsic  # type: ignore[untyped-decorator]
def _power_of_two(typing: Any, shifted: Any) -> Any:
    """2^n of a vector that holds n + 1.5 * 2^23, |n| < 127."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], BITS)
        # the low mantissa bits of n + 1.5 * 2^23 are n; 127 is the exponent's bias
        biased = builder.add(bits, ir.Constant(BITS, [127] * LANES))
        moved = builder.shl(biased, ir.Constant(BITS, [23] * LANES))
        return builder.bitcast(moved, VECTOR)

    return vector(vector), build


_ROUND = 12582912.0
_LOG2_E = 1.4426950408889634
_LN2_HIGH = 0.693359375
_LN2_LOW = -2.1219444005469057e-4


@intrinsic  # type: ignore[untyped-decorator]
def maximum(typing: Any, left: Any, right: Any) -> Any:
    """The larger of two vectors' lanes; nan where either is."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        larger = builder.select(builder.fcmp_ordered(">", *args), *args)
        is_nan = builder.fcmp_unordered("uno", *args)
        return builder.select(is_nan, builder.fadd(*args), larger)

    return vector(left, right), build


_SMALLEST_MANTISSA = 0x3F3504F3
"""Bits of the square root of 1/2."""


def _exponent_bits(builder: Any, bits: Any) -> Any:
    """Code for n of numbers 2^n m, m from the root of 1/2 to that of 2."""
    above = builder.sub(bits, ir.Constant(BITS, [_SMALLEST_MANTISSA] * LANES))
    return builder.ashr(above, ir.Constant(BITS, [23] * LANES))


@intrinsic  # type: ignore[untyped-decorator]
def _or_nan(typing: Any, result: Any, value: Any) -> Any:
    """The result; nan where the value is."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        is_nan = builder.fcmp_unordered("uno", args[1], args[1])
        return builder.select(is_nan, args[1], args[0])

    return vector(result, value), build


@intrinsic  # type: ignore[untyped-decorator]
def _exponent(typing: Any, value: Any) -> Any:
    """N of positive numbers 2^n m."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], BITS)
        return builder.sitofp(_exponent_bits(builder, bits), VECTOR)

    return vector(value), build


@intrinsic  # type: ignore[untyped-decorator]
def _mantissa(typing: Any, value: Any) -> Any:
    """M of positive numbers 2^n m."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], BITS)
        power = _exponent_bits(builder, bits)
        moved = builder.shl(power, ir.Constant(BITS, [23] * LANES))
        return builder.bitcast(builder.sub(bits, moved), VECTOR)

    return vector(value), build


@inlined
def _reduced(y: Any) -> Any:
    """2^n and exp(r) - 1 of y = n ln 2 + r, |y| < 88.

    exp(r) - 1 is its Taylor polynomial of degree 7 in |r| <= ln(2)/2.
    """
    shifted = y * _LOG2_E + _ROUND
    n = shifted - _ROUND
    r = (y - n * _LN2_HIGH) - n * _LN2_LOW
    p = r * (1.0 / 5040.0) + (1.0 / 720.0)
    p = p * r + (1.0 / 120.0)
    p = p * r + (1.0 / 24.0)
    p = p * r + (1.0 / 6.0)
    p = p * r + 0.5
    p = p * (r * r) + r
    return _power_of_two(shifted), p


@compiled
def exp(x: Any) -> Any:
    """Exponential, to a relative error of 1e-7; beyond 87 as at 87."""
    scale, p = _reduced(_clamp(x, 87.0))
    return p * scale + scale


@compiled
def tanh(x: Any) -> Any:
    """Hyperbolic tangent, to a relative error of 3e-7; beyond 8.6 as at 8.6.

    The ratio x P(x^2) / Q(x^2), both of degree 4, whose greatest relative error up to
    there is the least, 1.3e-8 (a weighted least squares fit, the weights moved to where
    the error is).
    """
    y = _clamp(x, 8.6)
    z = y * y
    p = z * 0.0174490284 + 26.1718823
    p = p * z + 4369.4195
    p = p * z + 166119.082
    p = p * z + 1239058.88
    q = z + 413.383589
    q = q * z + 32207.9736
    q = q * z + 579138.566
    q = q * z + 1239058.88
    return p * y / q


@compiled
def log(x: Any) -> Any:
    """Natural logarithm of positive normal numbers; error about 1e-7.

    With x = 2^n m and s = (m - 1) / (m + 1), log m = 2 (s + s^3 / 3 + ...); |s| is at
    most 0.172, where the terms from s^11 on are below 1e-9.
    """
    m = _mantissa(x)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    p = z * (2.0 / 9.0) + (2.0 / 7.0)
    p = p * z + (2.0 / 5.0)
    p = p * z + (2.0 / 3.0)
    n = _exponent(x)
    return _or_nan((n * _LN2_LOW + p * (z * s)) + (s + s) + n * _LN2_HIGH, x)


@compiled
def log_of_one_more(x: Any) -> Any:
    """log(1 + x) of numbers from 0 to 1, to a relative error of 1e-6."""
    rounded = x + 1.0
    return log(rounded) + (x - (rounded - 1.0)) / rounded
