"""Python objects in machine code: what a function that CPython calls without any wrapper needs.

Offsets are CPython's and NumPy's ABI: a tuple's items and a bytes object's characters lie behind the object's head,
an array's fields in the order of `PyArrayObject`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types

from kernels.simd.base import I8, I32, I64, cgutils, intrinsic, load_at

_HEAD = object.__basicsize__
_TYPE = _HEAD - 8
_TUPLE_ITEMS = _HEAD + 8
_BYTES_DATA = _HEAD + 16
_ARRAY_DATA, _ARRAY_DIMENSIONS, _ARRAY_SHAPE, _ARRAY_STRIDES = _HEAD, _HEAD + 8, _HEAD + 16, _HEAD + 24
_ARRAY_DESCRIPTOR, _DESCRIPTOR_CHARACTER = _HEAD + 40, _HEAD + 9
_CHARACTERS: dict[str, Any] = {"f": types.float32, "d": types.float64, "l": types.int64}
"""NumPy's type characters and what they are here."""


def _field(builder: Any, thing: Any, offset: int, kind: Any) -> Any:
    pointer = builder.inttoptr(builder.add(thing, I64(offset)), kind.as_pointer())
    return load_at(builder, pointer, kind)


def _call(builder: Any, name: str, *arguments: Any) -> Any:
    """Call a function of CPython's by its name."""
    declared = ir.FunctionType(I64, [I64] * len(arguments))
    return builder.call(cgutils.get_or_insert_function(builder.module, declared, name), arguments)


@intrinsic
def type_of(typing: Any, thing: Any) -> Any:
    """The address of an object's type."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _field(builder, arguments[0], _TYPE, I64)

    return types.intp(types.intp), emit


@intrinsic
def tuple_item(typing: Any, items: Any, number: Any) -> Any:
    """The address of an item of a tuple."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _field(builder, arguments[0], _TUPLE_ITEMS + 8 * number.literal_value, I64)

    return types.intp(types.intp, number), emit


@intrinsic
def argument(typing: Any, arguments: Any, number: Any) -> Any:
    """The address of one of the arguments of a call, which lie in memory one behind the other."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _field(builder, values[0], 8 * number.literal_value, I64)

    return types.intp(types.intp, number), emit


@intrinsic
def bytes_of(typing: Any, thing: Any) -> Any:
    """The characters of a bytes object as a uint8 array."""
    kind = types.Array(types.uint8, 1, "C", readonly=True)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        size = _field(builder, arguments[0], _HEAD, I64)
        array = context.make_array(kind)(context, builder)
        array.data = builder.inttoptr(builder.add(arguments[0], I64(_BYTES_DATA)), I8.as_pointer())
        array.shape, array.strides = cgutils.pack_array(builder, [size]), cgutils.pack_array(builder, [I64(1)])
        array.nitems, array.itemsize = size, I64(1)
        return array._getvalue()

    return kind(types.intp), emit


@intrinsic
def is_array_of(typing: Any, thing: Any, character: Any, dimensions: Any) -> Any:
    """Whether an array has that type character and number of dimensions; `usable` looks at the rest."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        found = _field(builder, arguments[0], _ARRAY_DIMENSIONS, I32)
        descriptor = _field(builder, arguments[0], _ARRAY_DESCRIPTOR, I64)
        same = builder.icmp_unsigned("==", found, I32(dimensions.literal_value))
        letter = I8(ord(character.literal_value))
        kind = builder.icmp_unsigned("==", _field(builder, descriptor, _DESCRIPTOR_CHARACTER, I8), letter)
        return builder.and_(same, kind)

    return types.boolean(types.intp, character, dimensions), emit


@intrinsic
def array_of(typing: Any, thing: Any, character: Any, dimensions: Any) -> Any:
    """A NumPy array of which `is_array_of` is true, as numba's."""
    count = dimensions.literal_value
    kind = types.Array(_CHARACTERS[character.literal_value], count, "C")

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        thing = arguments[0]
        shape_at, strides_at = (_field(builder, thing, at, I64) for at in (_ARRAY_SHAPE, _ARRAY_STRIDES))
        shape = [_field(builder, shape_at, 8 * i, I64) for i in range(count)]
        strides = [_field(builder, strides_at, 8 * i, I64) for i in range(count)]
        element = context.get_data_type(kind.dtype)
        array = context.make_array(kind)(context, builder)
        array.data = builder.inttoptr(_field(builder, thing, _ARRAY_DATA, I64), element.as_pointer())
        array.shape, array.strides = cgutils.pack_array(builder, shape), cgutils.pack_array(builder, strides)
        items = I64(1)
        for size in shape:
            items = builder.mul(items, size)
        array.nitems, array.itemsize = items, I64(context.get_abi_sizeof(element))
        array.parent = builder.inttoptr(thing, I8.as_pointer())
        return array._getvalue()

    return kind(types.intp, character, dimensions), emit


@intrinsic
def new_int(typing: Any, value: Any) -> Any:
    """A new reference to a Python integer."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _call(builder, "PyLong_FromLongLong", arguments[0])

    return types.intp(types.int64), emit


@intrinsic
def none(typing: Any) -> Any:
    """A new reference to `None`."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        found = builder.ptrtoint(context.get_c_value(builder, I8, "_Py_NoneStruct"), I64)
        declared = ir.FunctionType(ir.VoidType(), [I64])
        builder.call(cgutils.get_or_insert_function(builder.module, declared, "Py_IncRef"), [found])
        return found

    return types.intp(), emit


@intrinsic
def call_with(typing: Any, function: Any, argument: Any) -> Any:
    """Call a Python function; a new reference to what it returns, or 0 with its exception set."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _call(builder, "PyObject_CallOneArg", arguments[0], arguments[1])

    return types.intp(types.intp, types.intp), emit


@intrinsic
def call_with_all(typing: Any, function: Any, arguments: Any, count: Any, names: Any) -> Any:
    """As `call_with`, with the arguments of another call and the names of the last ones, 0 where none has one."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _call(builder, "PyObject_Vectorcall", *values)

    return types.intp(types.intp, types.intp, types.intp, types.intp), emit
