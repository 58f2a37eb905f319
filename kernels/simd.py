"""Explicit vectors for numba: a vector type, and intrinsics that emit LLVM's vector instructions.

`load(array, i, 16)` is sixteen lanes, one zmm register, and nothing is left to an autovectoriser. Every kernel is
written once for both widths: the number of lanes is an integer that the kernel closes over.

Indices are flat, in elements, and never checked: a kernel first asks `usable(array)`, which looks at the array
object's own flags in machine code. Loads and stores assume no alignment.
"""

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
    types.float32: F32, types.int64: I64, types.int32: I32, types.int16: I16, types.uint8: I8, types.boolean: I1,
}  # fmt: skip

_HEAD = object.__basicsize__
"""Bytes of a Python object before its own fields; a PyArrayObject's follow in an order that NumPy's ABI fixes."""
_DESCRIPTOR_OFFSET = _HEAD + 40
_FLAGS_OFFSET = _HEAD + 48
_BYTE_ORDER_OFFSET = _HEAD + 10
_KIND_OFFSET = _HEAD + 8
_C_CONTIGUOUS, _WRITEABLE = 0x1, 0x400


class Vector(types.Type):
    """`lanes` elements in one register."""

    def __init__(self, element: types.Type, lanes: int) -> None:
        self.element, self.lanes = element, lanes
        super().__init__(name=f"Vector({element}, {lanes})")


@extending.register_model(Vector)
class _VectorModel(extending.models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        super().__init__(manager, kind, ir.VectorType(ELEMENTS[kind.element], kind.lanes))  # type: ignore[no-untyped-call]


def _intrinsic(function: Callable[..., Any]) -> Any:
    """Numba's `intrinsic`, with constants arriving as constants, and without the types that it gives its result."""
    return extending.intrinsic(prefer_literal=True)(function)


def constant(kind: ir.VectorType, value: float) -> ir.Constant:
    """The same number in every lane."""
    return ir.Constant(kind, [value] * kind.count)


def call_llvm(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """Call one of LLVM's own intrinsics."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def width(kind: ir.VectorType) -> str:
    """How LLVM's overloaded intrinsics spell a vector type, e.g. `v16f32`."""
    return f"v{kind.count}{'f32' if kind.element == F32 else f'i{kind.element.width}'}"


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any, kind: Any) -> Any:
    """A pointer to `kind` at element `index` of an array of any number of dimensions."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index], source_etype=_element_of(context, array_type)), kind.as_pointer())


def _element_of(context: Any, array_type: Any) -> Any:
    return context.get_data_type(array_type.dtype)


def _load(builder: Any, pointer: Any, kind: Any) -> Any:
    return builder.load(pointer, align=1, typ=kind)


@_intrinsic
def load(typing: Any, array: Any, index: Any, lanes: Any) -> Any:
    """The `lanes` elements of `array` from flat `index` on."""
    result = Vector(array.dtype, lanes.literal_value)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_value_type(result)
        return _load(builder, _address(context, builder, array, arguments[0], arguments[1], kind), kind)

    return result(array, types.intp, lanes), emit


@_intrinsic
def load_int16(typing: Any, data: Any, index: Any, lanes: Any) -> Any:
    """The `lanes` little-endian int16 from sample `index` on, out of a buffer of bytes."""
    result = Vector(types.int16, lanes.literal_value)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_value_type(result)
        offset = builder.shl(arguments[1], I64(1))
        return _load(builder, _address(context, builder, data, arguments[0], offset, kind), kind)

    return result(data, types.intp, lanes), emit


@_intrinsic
def int16_at(typing: Any, data: Any, index: Any) -> Any:
    """The little-endian int16 at sample `index` of a buffer of bytes."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        offset = builder.shl(arguments[1], I64(1))
        return _load(builder, _address(context, builder, data, arguments[0], offset, I16), I16)

    return types.int16(data, types.intp), emit


@_intrinsic
def store(typing: Any, array: Any, index: Any, vector: Any) -> Any:
    """Write a vector to `array` from flat `index` on."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _address(context, builder, array, arguments[0], arguments[1], arguments[2].type)
        builder.store(arguments[2], pointer, align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), emit


def _part(builder: Any, count: Any, lanes: int) -> Any:
    """A mask of the first `count` lanes."""
    kind = ir.VectorType(I32, lanes)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), builder.trunc(count, I32), I32(0))
    wide = builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), ir.Constant(kind, [0] * lanes))
    return builder.icmp_signed("<", ir.Constant(kind, list(range(lanes))), wide)


@_intrinsic
def load_part(typing: Any, array: Any, index: Any, count: Any, fill: Any) -> Any:
    """The first `count` lanes from flat `index` on; the others come from `fill` and their memory is not touched."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = arguments[3].type
        pointer = _address(context, builder, array, arguments[0], arguments[1], kind)
        mask = _part(builder, arguments[2], kind.count)
        name = f"llvm.masked.load.{width(kind)}.p0"
        declared = ir.FunctionType(kind, [pointer.type, I32, mask.type, kind])
        return builder.call(
            cgutils.get_or_insert_function(builder.module, declared, name), [pointer, I32(1), mask, arguments[3]]
        )

    return fill(array, types.intp, types.intp, fill), emit


@_intrinsic
def store_part(typing: Any, array: Any, index: Any, count: Any, vector: Any) -> Any:
    """Write the first `count` lanes from flat `index` on; memory behind them is not touched."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = arguments[3].type
        pointer = _address(context, builder, array, arguments[0], arguments[1], kind)
        mask = _part(builder, arguments[2], kind.count)
        name = f"llvm.masked.store.{width(kind)}.p0"
        declared = ir.FunctionType(ir.VoidType(), [kind, pointer.type, I32, mask.type])
        builder.call(
            cgutils.get_or_insert_function(builder.module, declared, name), [arguments[3], pointer, I32(1), mask]
        )
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, vector), emit


@_intrinsic
def at(typing: Any, array: Any, index: Any) -> Any:
    """The element at flat `index` of an array of any number of dimensions."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = _element_of(context, array)
        return _load(builder, _address(context, builder, array, arguments[0], arguments[1], kind), kind)

    return array.dtype(array, types.intp), emit


@_intrinsic
def put(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """Write one element at flat `index`; the value is cast to the array's type."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _address(context, builder, array, arguments[0], arguments[1], arguments[2].type)
        builder.store(arguments[2], pointer, align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, array.dtype), emit


@_intrinsic
def usable(typing: Any, array: Any, writable: Any) -> Any:
    """Whether an array that came from Python is C-contiguous, of its declared kind, native and, if asked, writable.

    numba has looked at dimensions and item size before; this reads the rest from the array object itself, in a few
    instructions where asking in Python costs several hundred nanoseconds.
    """
    code = {types.float32: "f", types.int64: "i", types.int32: "i", types.int16: "i", types.uint8: "u"}[array.dtype]
    wanted = _C_CONTIGUOUS | (_WRITEABLE if writable.literal_value else 0)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def field(base: Any, offset: int, kind: Any) -> Any:
            return _load(builder, builder.gep(base, [I64(offset)], source_etype=I8), kind)

        parent = builder.bitcast(context.make_array(array)(context, builder, arguments[0]).parent, I8.as_pointer())
        flags = field(parent, _FLAGS_OFFSET, I32)
        descriptor = field(parent, _DESCRIPTOR_OFFSET, I8.as_pointer())
        good = builder.icmp_unsigned("==", builder.and_(flags, I32(wanted)), I32(wanted))
        kind = builder.icmp_unsigned("==", field(descriptor, _KIND_OFFSET, I8), I8(ord(code)))
        native = builder.icmp_unsigned("!=", field(descriptor, _BYTE_ORDER_OFFSET, I8), I8(ord(">")))
        return builder.and_(builder.and_(good, kind), native)

    return types.boolean(array, writable), emit


@_intrinsic
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


@_intrinsic
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


@_intrinsic
def splat(typing: Any, value: Any, lanes: Any) -> Any:
    """The same number in every lane: a float gives float32 lanes, an integer int32 lanes."""
    element = types.float32 if isinstance(value, types.Float) else types.int32
    result = Vector(element, lanes.literal_value)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_value_type(result)
        first = builder.insert_element(ir.Constant(kind, ir.Undefined), arguments[0], I32(0))
        zeros = ir.Constant(ir.VectorType(I32, kind.count), [0] * kind.count)
        return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), zeros)

    return result(element, lanes), emit


@_intrinsic
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
    return _intrinsic(typed)


add = _binary("add", lambda b, x, y: b.fadd(x, y) if x.type.element == F32 else b.add(x, y), "x + y")
sub = _binary("sub", lambda b, x, y: b.fsub(x, y) if x.type.element == F32 else b.sub(x, y), "x - y")
mul = _binary("mul", lambda b, x, y: b.fmul(x, y) if x.type.element == F32 else b.mul(x, y), "x * y")
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


@_intrinsic
def choose(typing: Any, mask: Any, then: Any, otherwise: Any) -> Any:
    """`then` where the mask is set, else `otherwise`."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(*arguments)

    return then(mask, then, then), emit


@_intrinsic
def fma(typing: Any, x: Any, y: Any, z: Any) -> Any:
    """The sum x * y + z with one rounding."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call_llvm(builder, f"llvm.fma.{width(arguments[0].type)}", arguments[0].type, list(arguments))

    return x(x, x, x), emit


@_intrinsic
def bits(typing: Any, mask: Any) -> Any:
    """A mask as an integer, lane 0 in bit 0."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.zext(builder.bitcast(arguments[0], ir.IntType(mask.lanes)), I64)

    return types.int64(mask), emit


@_intrinsic
def lowest_bit(typing: Any, value: Any) -> Any:
    """The number of the lowest set bit of a non-zero integer."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call_llvm(builder, "llvm.cttz.i64", I64, [arguments[0], I1(1)])

    return types.int64(types.int64), emit


@_intrinsic
def to_float(typing: Any, vector: Any) -> Any:
    """Integer lanes as float32 lanes."""
    result = Vector(types.float32, vector.lanes)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.sitofp(arguments[0], context.get_value_type(result))

    return result(vector), emit


@_intrinsic
def to_int32(typing: Any, vector: Any) -> Any:
    """uint8 lanes widened, int16 lanes sign-extended, float32 lanes truncated: int32 lanes."""
    result = Vector(types.int32, vector.lanes)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_value_type(result)
        if vector.element == types.float32:
            return builder.fptosi(arguments[0], kind)
        return (builder.zext if vector.element == types.uint8 else builder.sext)(arguments[0], kind)

    return result(vector), emit


@_intrinsic
def as_float(typing: Any, vector: Any) -> Any:
    """The bits of int32 lanes taken as float32."""
    result = Vector(types.float32, vector.lanes)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(result))

    return result(vector), emit


@_intrinsic
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


@_intrinsic
def largest(typing: Any, vector: Any) -> Any:
    """The largest lane of a float32 vector without NaN."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _halves(builder, arguments[0], lambda x, y: builder.select(builder.fcmp_ordered(">", x, y), x, y))

    return types.float32(vector), emit


@_intrinsic
def smallest(typing: Any, vector: Any) -> Any:
    """The smallest lane of an int32 vector."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _halves(builder, arguments[0], lambda x, y: builder.select(builder.icmp_signed("<", x, y), x, y))

    return types.int32(vector), emit


@_intrinsic
def total(typing: Any, vector: Any) -> Any:
    """The sum of the lanes of a float32 vector, added in a tree."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _halves(builder, arguments[0], builder.fadd)

    return types.float32(vector), emit


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function callable from kernels, always inlined; the number of lanes arrives in it as a constant.

    Plain functions that a kernel closes over are pickled by name, so that the kernel's cache key stays the same from
    one process to the next; a compiled helper's would not.
    """

    @extending.overload(
        function, prefer_literal=True, strict=False, jit_options={"forceinline": True, "fastmath": False}
    )
    def typed(*arguments: Any) -> Any:
        return function

    return function


def _tile_rows(builder: Any, rows: list[Any]) -> list[Any]:
    """Transpose `lanes` vectors of `lanes` float32: two stages within 128-bit lanes, then whole 128-bit lanes."""
    lanes = len(rows)
    quarters = lanes // 4

    def shuffle(x: Any, y: Any, pattern: list[int]) -> Any:
        return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(I32, len(pattern)), pattern))

    def within(x: Any, y: Any, pick: tuple[int, int, int, int]) -> Any:
        """The same choice of four in each 128-bit lane: 0 to 3 from x, 4 to 7 from y."""
        return shuffle(x, y, [4 * q + p + (lanes - 4 if p > 3 else 0) for q in range(quarters) for p in pick])

    columns: list[list[Any]] = []  # [group of four rows][column of four]: a vector with that column of each lane
    for group in range(quarters):
        a, b, c, d = rows[4 * group : 4 * group + 4]
        ab_low, ab_high = within(a, b, (0, 4, 1, 5)), within(a, b, (2, 6, 3, 7))
        cd_low, cd_high = within(c, d, (0, 4, 1, 5)), within(c, d, (2, 6, 3, 7))
        columns.append([
            within(ab_low, cd_low, (0, 1, 4, 5)), within(ab_low, cd_low, (2, 3, 6, 7)),
            within(ab_high, cd_high, (0, 1, 4, 5)), within(ab_high, cd_high, (2, 3, 6, 7)),
        ])  # fmt: skip

    def blocks(x: Any, y: Any, pick: tuple[tuple[int, int], ...]) -> Any:
        """Whole 128-bit lanes: (0, k) from x, (1, k) from y."""
        return shuffle(x, y, [source * lanes + 4 * k + i for source, k in pick for i in range(4)])

    result: list[Any] = [None] * lanes
    for c in range(4):
        parts = [columns[group][c] for group in range(quarters)]
        if quarters == 2:
            result[c] = blocks(parts[0], parts[1], ((0, 0), (1, 0)))
            result[4 + c] = blocks(parts[0], parts[1], ((0, 1), (1, 1)))
            continue
        low01 = blocks(parts[0], parts[1], ((0, 0), (0, 2), (1, 0), (1, 2)))
        high01 = blocks(parts[0], parts[1], ((0, 1), (0, 3), (1, 1), (1, 3)))
        low23 = blocks(parts[2], parts[3], ((0, 0), (0, 2), (1, 0), (1, 2)))
        high23 = blocks(parts[2], parts[3], ((0, 1), (0, 3), (1, 1), (1, 3)))
        result[c] = blocks(low01, low23, ((0, 0), (0, 2), (1, 0), (1, 2)))
        result[4 + c] = blocks(high01, high23, ((0, 0), (0, 2), (1, 0), (1, 2)))
        result[8 + c] = blocks(low01, low23, ((0, 1), (0, 3), (1, 1), (1, 3)))
        result[12 + c] = blocks(high01, high23, ((0, 1), (0, 3), (1, 1), (1, 3)))
    return result


@_intrinsic
def transpose_tile(
    typing: Any, source: Any, index: Any, stride: Any, target: Any, to: Any, to_stride: Any, lanes: Any
) -> Any:
    """Copy a tile of `lanes` x `lanes` float32 with its rows as columns, in registers.

    The tile begins at flat `index` of `source` with rows `stride` elements apart, and at `to` of `target`.
    """

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.VectorType(F32, lanes.literal_value)

        def pointer(array_type: Any, which: int, row: int) -> Any:
            array, start, step = arguments[which : which + 3]
            offset = builder.add(start, builder.mul(step, I64(row)))
            return _address(context, builder, array_type, array, offset, kind)

        rows = [_load(builder, pointer(source, 0, row), kind) for row in range(kind.count)]
        for row, vector in enumerate(_tile_rows(builder, rows)):
            builder.store(vector, pointer(target, 3, row), align=1)
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, target, types.intp, types.intp, lanes), emit


@_intrinsic
def prefetch(typing: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of a flat index, which may lie behind the array's end."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _address(context, builder, array, arguments[0], arguments[1], I8)
        call_llvm(builder, "llvm.prefetch.p0", ir.VoidType(), [pointer, I32(0), I32(3), I32(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), emit


@_intrinsic
def memcpy(typing: Any, target: Any, source: Any, count: Any) -> Any:
    """The C library's memcpy of `count` bytes between two arrays."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        to = _address(context, builder, target, arguments[0], I64(0), I8)
        start = _address(context, builder, source, arguments[1], I64(0), I8)
        cgutils.raw_memcpy(builder, to, start, arguments[2], 1)
        return context.get_dummy_value()

    return types.void(target, source, types.intp), emit
