"""One check for each axis: what its contract says, on an open resource."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipelines.acoustic.tokens import TokenList
from tests.contract.checks.acoustic import check_acoustic, check_ctc_acoustic
from tests.contract.checks.decoders import check_ctc_decoder, check_decoder, check_peer
from tests.contract.checks.hot_path import check_allocator, check_kernel, check_memory, check_pages
from tests.contract.checks.serving import check_connection, check_finals, check_partials, check_vad
from tests.small_ctc import LABELS

CHECKS: dict[tuple[str, str], Callable[[Any], None]] = {
    ("connection", ""): check_connection,
    ("kernel", ""): check_kernel,
    ("memory", ""): check_memory,
    ("acoustic", "aed"): check_acoustic,
    ("acoustic", "ctc"): check_ctc_acoustic,
    ("decoder", "aed"): check_decoder,
    ("decoder", "ctc"): lambda decoder: check_ctc_decoder(decoder, TokenList(LABELS, 0)),
    ("peer", ""): check_peer,
    ("pages", ""): check_pages,
    ("allocator", ""): check_allocator,
    ("vad", ""): check_vad,
    ("partials", ""): check_partials,
    ("finals", ""): check_finals,
}
"""By axis and, where it has several, family of model."""
