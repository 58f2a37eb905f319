"""Explicit vectors for numba: a vector type, and intrinsics that emit LLVM's vector instructions.

`load(array, i, 16)` is sixteen lanes, one zmm register, and nothing is left to an autovectoriser. Every kernel is
written once for both widths: the number of lanes is an integer that the kernel closes over.

Indices are flat, in elements, and never checked: a kernel first asks `usable(array)`, which looks at the array
object's own flags in machine code. Loads and stores assume no alignment.
"""

from kernels.simd.arrays import memcpy, overlap, prefetch, usable
from kernels.simd.base import Vector, inlined, shared, target
from kernels.simd.codes import code_rows
from kernels.simd.four import bits_of_four, largest_of_four, smallest_of_four
from kernels.simd.lanes import (
    add,
    any_nan,
    as_float,
    as_int32,
    bit_and,
    bit_or,
    bit_xor,
    bits,
    choose,
    div,
    equal,
    fma,
    greater,
    greater_or_nan,
    lane,
    larger,
    largest,
    lowest_bit,
    mul,
    of_byte,
    shl,
    shr,
    smallest,
    splat,
    sub,
    to_float,
    to_int32,
    total,
)
from kernels.simd.memory import at, int16_at, load, load_int16, load_part, put, store, store_codes, store_part
from kernels.simd.objects import array_of, bytes_of, call_with, is_array_of, new_int, tuple_item, type_of
from kernels.simd.product import product_rows, steady_rows
from kernels.simd.tiles import transpose_tile

__all__ = [
    "Vector",
    "add",
    "any_nan",
    "array_of",
    "as_float",
    "as_int32",
    "at",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bits",
    "bits_of_four",
    "bytes_of",
    "call_with",
    "choose",
    "code_rows",
    "div",
    "equal",
    "fma",
    "greater",
    "greater_or_nan",
    "inlined",
    "int16_at",
    "is_array_of",
    "lane",
    "larger",
    "largest",
    "largest_of_four",
    "load",
    "load_int16",
    "load_part",
    "lowest_bit",
    "memcpy",
    "mul",
    "new_int",
    "of_byte",
    "overlap",
    "prefetch",
    "product_rows",
    "put",
    "shared",
    "shl",
    "shr",
    "smallest",
    "smallest_of_four",
    "splat",
    "steady_rows",
    "store",
    "store_codes",
    "store_part",
    "sub",
    "target",
    "to_float",
    "to_int32",
    "total",
    "transpose_tile",
    "tuple_item",
    "type_of",
    "usable",
]
