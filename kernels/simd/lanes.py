"""Arithmetic on vectors: lane by lane, comparisons and choices, conversions, and one number from all lanes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types

from kernels.simd.base import F32, I1, I32, I64, Vector, call_llvm, constant, intrinsic, splatted, width


@intrinsic
def splat(typing: Any, value: Any, lanes: Any) -> Any:
    """The same number in every lane: a float gives float32 lanes, an integer int32 lanes."""
    element = types.float32 if isinstance(value, types.Float) else types.int32
    result = Vector(element, lanes.literal_value)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_value_type(result)
        return splatted(builder, arguments[0], kind)

    return result(element, lanes), emit


@intrinsic
def of_byte(typing: Any, value: Any, lanes: Any) -> Any:
    """uint8 lanes with `value` in the first and zeros in the others."""
    result = Vector(types.uint8, lanes.literal_value)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_value_type(result)
        return builder.insert_element(constant(kind, 0), arguments[0], I32(0))

    return result(types.uint8, lanes), emit


def _binary(name: str, build: Callable[[Any, Any, Any], Any], documentation: str, *, mask: bool = False) -> Any:
    """An intrinsic of two vectors of one type; a comparison gives a mask."""

    def typed(typing: Any, left: Any, right: Any) -> Any:
        if not (isinstance(left, Vector) and left == right):
            return None

        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return build(builder, *arguments)

        return (Vector(types.boolean, left.lanes) if mask else left)(left, right), emit

    typed.__name__ = typed.__qualname__ = name
    typed.__doc__ = documentation
    return intrinsic(typed)


add = _binary("add", lambda b, x, y: b.fadd(x, y) if x.type.element == F32 else b.add(x, y), "x + y")
sub = _binary("sub", lambda b, x, y: b.fsub(x, y) if x.type.element == F32 else b.sub(x, y), "x - y")
mul = _binary("mul", lambda b, x, y: b.fmul(x, y) if x.type.element == F32 else b.mul(x, y), "x * y")
div = _binary("div", lambda b, x, y: b.fdiv(x, y), "x / y")
shl = _binary("shl", lambda b, x, y: b.shl(x, y), "x << y, int32 lanes")
shr = _binary("shr", lambda b, x, y: b.lshr(x, y), "x >> y, int32 lanes taken as unsigned")
bit_and = _binary("bit_and", lambda b, x, y: b.and_(x, y), "x & y")
bit_or = _binary("bit_or", lambda b, x, y: b.or_(x, y), "x | y")
bit_xor = _binary("bit_xor", lambda b, x, y: b.xor(x, y), "x ^ y")
larger = _binary(
    "larger",
    lambda b, x, y: b.select(b.fcmp_ordered(">", x, y), x, y),
    "x where x > y, else y: a NaN in x is passed over, one in y stays",
)
equal = _binary(
    "equal",
    lambda b, x, y: b.fcmp_ordered("==", x, y) if x.type.element == F32 else b.icmp_signed("==", x, y),
    "x == y",
    mask=True,
)
greater = _binary("greater", lambda b, x, y: b.fcmp_ordered(">", x, y), "x > y", mask=True)
greater_or_nan = _binary("greater_or_nan", lambda b, x, y: b.fcmp_unordered(">", x, y), "not x <= y", mask=True)
any_nan = _binary("any_nan", lambda b, x, y: b.fcmp_unordered("uno", x, y), "x or y is NaN", mask=True)


@intrinsic
def choose(typing: Any, mask: Any, then: Any, otherwise: Any) -> Any:
    """`then` where the mask is set, else `otherwise`."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(*arguments)

    return then(mask, then, then), emit


@intrinsic
def fma(typing: Any, x: Any, y: Any, z: Any) -> Any:
    """The sum x * y + z with one rounding."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call_llvm(builder, f"llvm.fma.{width(arguments[0].type)}", arguments[0].type, list(arguments))

    return x(x, x, x), emit


@intrinsic
def sqrt(typing: Any, x: Any) -> Any:
    """The square root of each lane."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call_llvm(builder, f"llvm.sqrt.{width(arguments[0].type)}", arguments[0].type, list(arguments))

    return x(x), emit


@intrinsic
def bits(typing: Any, mask: Any) -> Any:
    """A mask as an integer, lane 0 in bit 0."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.zext(builder.bitcast(arguments[0], ir.IntType(mask.lanes)), I64)

    return types.int64(mask), emit


@intrinsic
def lowest_bit(typing: Any, value: Any) -> Any:
    """The number of the lowest set bit of a non-zero integer."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call_llvm(builder, "llvm.cttz.i64", I64, [arguments[0], I1(1)])

    return types.int64(types.int64), emit


@intrinsic
def lane(typing: Any, vector: Any, number: Any) -> Any:
    """One lane of a vector, by a number that is known at run time only."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.extract_element(*arguments)

    return vector.element(vector, types.int64), emit


@intrinsic
def to_float(typing: Any, vector: Any) -> Any:
    """Integer lanes as float32 lanes."""
    result = Vector(types.float32, vector.lanes)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.sitofp(arguments[0], context.get_value_type(result))

    return result(vector), emit


@intrinsic
def to_int32(typing: Any, vector: Any) -> Any:
    """uint8 lanes widened, int16 lanes sign-extended, float32 lanes truncated: int32 lanes."""
    result = Vector(types.int32, vector.lanes)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_value_type(result)
        if vector.element == types.float32:
            return builder.fptosi(arguments[0], kind)
        return (builder.zext if vector.element == types.uint8 else builder.sext)(arguments[0], kind)

    return result(vector), emit


@intrinsic
def as_float(typing: Any, vector: Any) -> Any:
    """The bits of int32 lanes taken as float32."""
    result = Vector(types.float32, vector.lanes)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(result))

    return result(vector), emit


@intrinsic
def as_int32(typing: Any, vector: Any) -> Any:
    """The bits of float32 lanes taken as int32."""
    result = Vector(types.int32, vector.lanes)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(result))

    return result(vector), emit


def _halves(builder: Any, vector: Any, combine: Callable[[Any, Any], Any]) -> Any:
    """Combine the upper half of the lanes with the lower until one is left."""
    count = vector.type.count
    undefined = ir.Constant(vector.type, ir.Undefined)
    while count > 1:
        count //= 2
        lanes = ir.VectorType(I32, count)
        low = builder.shuffle_vector(vector, undefined, ir.Constant(lanes, list(range(count))))
        high = builder.shuffle_vector(vector, undefined, ir.Constant(lanes, list(range(count, 2 * count))))
        vector = combine(low, high)
        undefined = ir.Constant(vector.type, ir.Undefined)
    return builder.extract_element(vector, I32(0))


@intrinsic
def largest(typing: Any, vector: Any) -> Any:
    """The largest lane of a float32 vector without NaN."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _halves(builder, arguments[0], lambda x, y: builder.select(builder.fcmp_ordered(">", x, y), x, y))

    return types.float32(vector), emit


@intrinsic
def smallest(typing: Any, vector: Any) -> Any:
    """The smallest lane of an int32 vector."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _halves(builder, arguments[0], lambda x, y: builder.select(builder.icmp_signed("<", x, y), x, y))

    return types.int32(vector), emit


@intrinsic
def total(typing: Any, vector: Any) -> Any:
    """The sum of the lanes of a float32 vector, added in a tree."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _halves(builder, arguments[0], builder.fadd)

    return types.float32(vector), emit
