"""The vector type, and what the intrinsics of this package are written with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import extending
from numba.core import cgutils as untyped_cgutils
from numba.core import types

cgutils: Any = untyped_cgutils

I1, I8, I16, I32, I64, F32 = (
    ir.IntType(1),
    ir.IntType(8),
    ir.IntType(16),
    ir.IntType(32),
    ir.IntType(64),
    ir.FloatType(),
)
ELEMENTS: dict[Any, Any] = {
    types.float32: F32, types.int64: I64, types.int32: I32, types.int16: I16,
    types.int8: I8, types.uint8: I8, types.boolean: I1,
}  # fmt: skip


class Vector(types.Type):
    """`lanes` elements in one register."""

    def __init__(self, element: types.Type, lanes: int) -> None:
        self.element, self.lanes = element, lanes
        super().__init__(name=f"Vector({element}, {lanes})")


@extending.register_model(Vector)
class _VectorModel(extending.models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        super().__init__(manager, kind, ir.VectorType(ELEMENTS[kind.element], kind.lanes))  # type: ignore[no-untyped-call]


def intrinsic(function: Callable[..., Any]) -> Any:
    """Numba's `intrinsic`, with constants arriving as constants, and without the types that it gives its result."""
    return extending.intrinsic(prefer_literal=True)(function)


def constant(kind: ir.VectorType, value: float) -> ir.Constant:
    """The same number in every lane."""
    return ir.Constant(kind, [value] * kind.count)


def splatted(builder: Any, value: Any, kind: ir.VectorType) -> Any:
    """One value in every lane."""
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, value, I32(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, kind.count), [0] * kind.count))


def call_llvm(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """Call one of LLVM's own intrinsics."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def width(kind: ir.VectorType) -> str:
    """How LLVM's overloaded intrinsics spell a vector type, e.g. `v16f32`."""
    return f"v{kind.count}{'f32' if kind.element == F32 else f'i{kind.element.width}'}"


def address(context: Any, builder: Any, array_type: Any, array: Any, index: Any, kind: Any) -> Any:
    """A pointer to `kind` at element `index` of an array of any number of dimensions."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index], source_etype=element_of(context, array_type)), kind.as_pointer())


def element_of(context: Any, array_type: Any) -> Any:
    """The LLVM type of an array's elements."""
    return context.get_data_type(array_type.dtype)


def load_at(builder: Any, pointer: Any, kind: Any) -> Any:
    """What lies at a pointer, whatever its alignment."""
    return builder.load(pointer, align=1, typ=kind)


@intrinsic
def target(typing: Any, lanes: Any) -> Any:
    """Restrict the function it stands in to the instructions that the number of lanes stands for.

    Eight lanes: a Haswell, so that an AVX2 kernel is one on an AVX-512 machine too (else LLVM uses its mask registers).
    Sixteen: the machine's own, with 512-bit registers where LLVM would rather split them.
    """

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        attributes = {8: ('"target-cpu"="haswell"', '"target-features"=""'), 16: ('"prefer-vector-width"="512"',)}
        for attribute in attributes[lanes.literal_value]:
            set.add(builder.function.attributes, attribute)  # llvmlite's own `add` knows no string attributes
        return context.get_dummy_value()

    return types.void(lanes), emit


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function callable from kernels, always inlined; the number of lanes arrives in it as a constant.

    Plain functions that a kernel closes over are pickled by name, so that the kernel's cache key stays the same from
    one process to the next; a compiled helper's would not.
    """
    return _callable(function, inline=True)


def shared(function: Callable[..., Any]) -> Callable[..., Any]:
    """As `inlined`, but compiled once for all the places that call it: for long functions."""
    return _callable(function, inline=False)


def _callable(function: Callable[..., Any], *, inline: bool) -> Callable[..., Any]:
    options: Any = {"forceinline": inline, "fastmath": False, "_nrt": False}

    @extending.overload(function, prefer_literal=True, strict=False, jit_options=options)
    def typed(*arguments: Any) -> Any:
        return function

    return function
