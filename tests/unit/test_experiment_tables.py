"""The tables in the experiments' documents are those that their commands make from the stored results."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from harness.documents import filled_in

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SCRIPTS = (
    "001-floor/floor.py",
    "003-kernels/measure.py",
    "004-allocators/measure.py",
    "005-rival/tables.py",
    "012-speculative/measure.py",
    "012-speculative/rescore.py",
    "013-reading/measure.py",
    "014-accuracy/measure.py",
    "015-decoders/sweep.py",
    "016-streaming-speed/measure.py",
    "018-precision/measure.py",
    "031-capacity/measure.py",
    "032-gpu/measure.py",
)


def load(script: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("experiment", EXPERIMENTS / script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("script", SCRIPTS)
def test_tables_say_what_the_stored_result_says(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # the scripts set them for good
    module = load(script)
    tables = module.all_tables(json.loads(module.RESULT.read_text("utf-8")))
    text = module.README.read_text("utf-8")
    assert tables
    assert filled_in(text, tables) == text, f"run: .venv/bin/python experiments/{script} --show"


@pytest.mark.parametrize("script", ["020-triton-connections/report.py", "021-triton-batching/measure.py"])
def test_documents_say_what_the_stored_samples_say(script: str) -> None:
    module = load(script)
    stored = (EXPERIMENTS / script).with_name("result.md").read_text("utf-8")
    assert module.document() == stored, (
        f"run: .venv/bin/python {(EXPERIMENTS / script).with_name('measure.py')} --report"
    )


def test_the_tables_of_the_server_under_load_say_what_the_stored_result_says() -> None:
    folder = EXPERIMENTS / "030-server-load"
    result = folder / "result.json"
    stored = json.loads(result.read_text("utf-8")) if result.is_file() else {}
    tables = load("030-server-load/tables.py").all_tables(stored)
    text = (folder / "README.md").read_text("utf-8")
    assert set(tables) == {"null", "real", "rivals", "legacy", "both", "both-real"}
    assert filled_in(text, tables) == text, f"run: .venv/bin/python {folder / 'measure.py'} --show"


def test_a_document_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks the markers <!-- rates -->"):
        filled_in("no table here", {"rates": "| a |"})
    assert filled_in("a <!-- x -->old<!-- end x --> b", {"x": "new"}) == "a <!-- x -->\nnew\n<!-- end x --> b"
