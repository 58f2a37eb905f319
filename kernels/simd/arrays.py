"""What a kernel asks about a whole array, in machine code."""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types

from kernels.simd.base import I8, I32, I64, address, call_llvm, cgutils, intrinsic, load_at

_HEAD = object.__basicsize__
"""Bytes of a Python object before its own fields; a PyArrayObject's follow in an order that NumPy's ABI fixes."""
_DESCRIPTOR_OFFSET = _HEAD + 40
_FLAGS_OFFSET = _HEAD + 48
_BYTE_ORDER_OFFSET = _HEAD + 10
_KIND_OFFSET = _HEAD + 8
_C_CONTIGUOUS, _WRITEABLE = 0x1, 0x400


@intrinsic
def usable(typing: Any, array: Any, writable: Any) -> Any:
    """Whether an array that came from Python is C-contiguous, of its declared kind, native and, if asked, writable.

    numba has looked at dimensions and item size before; this reads the rest from the array object itself, in a few
    instructions where asking in Python costs several hundred nanoseconds.
    """
    code = {types.float32: "f", types.int64: "i", types.int32: "i", types.int16: "i", types.uint8: "u"}[array.dtype]
    wanted = _C_CONTIGUOUS | (_WRITEABLE if writable.literal_value else 0)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def field(base: Any, offset: int, kind: Any) -> Any:
            return load_at(builder, builder.gep(base, [I64(offset)], source_etype=I8), kind)

        parent = builder.bitcast(context.make_array(array)(context, builder, arguments[0]).parent, I8.as_pointer())
        flags = field(parent, _FLAGS_OFFSET, I32)
        descriptor = field(parent, _DESCRIPTOR_OFFSET, I8.as_pointer())
        good = builder.icmp_unsigned("==", builder.and_(flags, I32(wanted)), I32(wanted))
        kind = builder.icmp_unsigned("==", field(descriptor, _KIND_OFFSET, I8), I8(ord(code)))
        native = builder.icmp_unsigned("!=", field(descriptor, _BYTE_ORDER_OFFSET, I8), I8(ord(">")))
        return builder.and_(builder.and_(good, kind), native)

    return types.boolean(array, writable), emit


@intrinsic
def overlap(typing: Any, left: Any, right: Any) -> Any:
    """Whether two contiguous arrays share memory."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        ends = []
        for kind, value in zip((left, right), arguments, strict=True):
            array = context.make_array(kind)(context, builder, value)
            start = builder.ptrtoint(array.data, I64)
            ends.append((start, builder.add(start, builder.mul(array.nitems, array.itemsize))))
        (a, a_end), (b, b_end) = ends
        return builder.and_(builder.icmp_unsigned("<", a, b_end), builder.icmp_unsigned("<", b, a_end))

    return types.boolean(left, right), emit


@intrinsic
def prefetch(typing: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of a flat index, which may lie behind the array's end."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = address(context, builder, array, arguments[0], arguments[1], I8)
        call_llvm(builder, "llvm.prefetch.p0", ir.VoidType(), [pointer, I32(0), I32(3), I32(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), emit


@intrinsic
def memcpy(typing: Any, target: Any, source: Any, count: Any) -> Any:
    """The C library's memcpy of `count` bytes between two arrays."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        to = address(context, builder, target, arguments[0], I64(0), I8)
        start = address(context, builder, source, arguments[1], I64(0), I8)
        cgutils.raw_memcpy(builder, to, start, arguments[2], 1)
        return context.get_dummy_value()

    return types.void(target, source, types.intp), emit
