"""The registry and the pipeline configuration."""

import subprocess
import sys

import pytest

from pipelines import registry
from pipelines.config import PipelineConfig, default_config, load_config
from pipelines.errors import AmiraError

HEAVY = ("numba", "onnx", "onnxruntime", "pandas", "matplotlib", "scipy", "soundfile", "jiwer", "pyarrow")


def test_unknown_names_come_with_the_nearest_and_the_remedy() -> None:
    with pytest.raises(
        AmiraError, match=r"variant 'kernel/scaler' does not exist.*Did you mean 'kernel/scalar'.*amira variants"
    ):
        registry.get("kernel/scaler")
    with pytest.raises(AmiraError, match=r"axis 'kernal' does not exist; have: acoustic, .*kernel"):
        registry.get("kernal/scalar")


def test_variants_import_nothing_heavy() -> None:
    code = (
        "import sys; from pipelines import registry; [registry.get(i).available() for i in registry.ids()]; "
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_short_names_become_ids() -> None:
    config = PipelineConfig(variants={"acoustic": "ort@fp32", "kernel": "kernel/numpy"})
    assert config.variants == {"acoustic": "acoustic/ort@fp32", "kernel": "kernel/numpy"}


def test_a_configuration_is_frozen_and_changes_make_a_copy() -> None:
    config = default_config()
    changed = config.with_changes({"acoustic": "ort@fp32"})
    assert changed.variants["acoustic"] == "acoustic/ort@fp32"
    assert config.variants["acoustic"] == "acoustic/ort-shortlist@fp32"
    with pytest.raises(ValueError, match="frozen"):
        config.threads = 3


@pytest.mark.parametrize("text", ["thread = 1", "threads = 0\n[variants]", "variants = 3", "not toml"])
def test_wrong_files_are_refused_with_their_name(tmp_path, text: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "pipeline.toml"
    path.write_text(text)
    with pytest.raises(AmiraError, match=r"pipeline\.toml is wrong"):
        load_config(path)


def test_a_registration_that_does_not_load_is_a_clear_error(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[amira.variants]\nkernel/broken = no_such_module:Thing\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry._entry_points.cache_clear()
    try:
        with pytest.raises(AmiraError, match=r"kernel/broken.*no_such_module:Thing, which does not load.*Reinstall"):
            registry.get("kernel/broken")
    finally:
        monkeypatch.undo()
        registry._entry_points.cache_clear()
