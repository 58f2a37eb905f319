"""Loads and stores of vectors, parts of vectors and single elements."""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types

from kernels.simd.base import (
    I16,
    I32,
    I64,
    Vector,
    address,
    cgutils,
    element_of,
    intrinsic,
    load_at,
    splatted,
    width,
)


@intrinsic
def load(typing: Any, array: Any, index: Any, lanes: Any) -> Any:
    """The `lanes` elements of `array` from flat `index` on."""
    result = Vector(array.dtype, lanes.literal_value)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_value_type(result)
        return load_at(builder, address(context, builder, array, arguments[0], arguments[1], kind), kind)

    return result(array, types.intp, lanes), emit


@intrinsic
def load_int16(typing: Any, data: Any, index: Any, lanes: Any) -> Any:
    """The `lanes` little-endian int16 from sample `index` on, out of a buffer of bytes."""
    result = Vector(types.int16, lanes.literal_value)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_value_type(result)
        offset = builder.shl(arguments[1], I64(1))
        return load_at(builder, address(context, builder, data, arguments[0], offset, kind), kind)

    return result(data, types.intp, lanes), emit


@intrinsic
def int16_at(typing: Any, data: Any, index: Any) -> Any:
    """The little-endian int16 at sample `index` of a buffer of bytes."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        offset = builder.shl(arguments[1], I64(1))
        return load_at(builder, address(context, builder, data, arguments[0], offset, I16), I16)

    return types.int16(data, types.intp), emit


@intrinsic
def store(typing: Any, array: Any, index: Any, vector: Any) -> Any:
    """Write a vector to `array` from flat `index` on."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = address(context, builder, array, arguments[0], arguments[1], arguments[2].type)
        builder.store(arguments[2], pointer, align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), emit


@intrinsic
def store_codes(typing: Any, array: Any, index: Any, vector: Any) -> Any:
    """Write int32 lanes, all of which fit, as elements of `array` (uint8 or int16) from flat `index` on."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        codes = builder.trunc(arguments[2], ir.VectorType(element_of(context, array), vector.lanes))
        pointer = address(context, builder, array, arguments[0], arguments[1], codes.type)
        builder.store(codes, pointer, align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), emit


def _part(builder: Any, count: Any, lanes: int) -> Any:
    """A mask of the first `count` lanes."""
    kind = ir.VectorType(I32, lanes)
    return builder.icmp_signed(
        "<", ir.Constant(kind, list(range(lanes))), splatted(builder, builder.trunc(count, I32), kind)
    )


@intrinsic
def load_part(typing: Any, array: Any, index: Any, count: Any, fill: Any) -> Any:
    """The first `count` lanes from flat `index` on; the others come from `fill` and their memory is not touched."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = arguments[3].type
        pointer = address(context, builder, array, arguments[0], arguments[1], kind)
        mask = _part(builder, arguments[2], kind.count)
        name = f"llvm.masked.load.{width(kind)}.p0"
        declared = ir.FunctionType(kind, [pointer.type, I32, mask.type, kind])
        return builder.call(
            cgutils.get_or_insert_function(builder.module, declared, name), [pointer, I32(1), mask, arguments[3]]
        )

    return fill(array, types.intp, types.intp, fill), emit


@intrinsic
def store_part(typing: Any, array: Any, index: Any, count: Any, vector: Any) -> Any:
    """Write the first `count` lanes from flat `index` on; memory behind them is not touched."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = arguments[3].type
        pointer = address(context, builder, array, arguments[0], arguments[1], kind)
        mask = _part(builder, arguments[2], kind.count)
        name = f"llvm.masked.store.{width(kind)}.p0"
        declared = ir.FunctionType(ir.VoidType(), [kind, pointer.type, I32, mask.type])
        builder.call(
            cgutils.get_or_insert_function(builder.module, declared, name), [arguments[3], pointer, I32(1), mask]
        )
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, vector), emit


@intrinsic
def at(typing: Any, array: Any, index: Any) -> Any:
    """The element at flat `index` of an array of any number of dimensions."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = element_of(context, array)
        return load_at(builder, address(context, builder, array, arguments[0], arguments[1], kind), kind)

    return array.dtype(array, types.intp), emit


@intrinsic
def put(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """Write one element at flat `index`; the value is cast to the array's type."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = address(context, builder, array, arguments[0], arguments[1], arguments[2].type)
        builder.store(arguments[2], pointer, align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, array.dtype), emit
