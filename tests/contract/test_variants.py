"""The contract suite: every registered variant, whoever registered it, keeps its axis's contract.

A new axis needs a check here before a variant of it can pass.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import registry
from pipelines.config import PipelineConfig
from pipelines.errors import AmiraError
from pipelines.paths import models_dir
from pipelines.registry import Context
from tests.contract.checks import CHECKS
from tests.contract.checks.acoustic import check_streaming
from tests.contract.opening import OWN_MODELS, opened
from tests.small_ctc import write_small_stream


@pytest.fixture(scope="module")
def triton() -> Iterator[None]:
    """One server for all variants that want one; that each can start its own is tested elsewhere."""
    from pipelines.triton import environment, repository, variants
    from pipelines.triton.server import ServerSpec, TritonServer

    if environment.problem() is not None:
        yield  # the variants say so themselves
        return
    models = ("preprocessor", "moonshine-encoder", "moonshine-encoder-int8")
    with TritonServer(ServerSpec(repository.served(), models)) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv(variants.URL_VARIABLE, server.url)
        patch.setenv(variants.HTTP_URL_VARIABLE, server.http_url)
        yield


@pytest.mark.parametrize("variant_id", registry.ids())
def test_says_what_it_is(variant_id: str) -> None:
    variant = registry.get(variant_id)
    assert variant.id == variant_id
    assert 10 < len(variant.summary) < 120
    problem = variant.available()
    if problem is not None:
        assert problem.reason
        assert problem.remedy


@pytest.mark.parametrize("variant_id", registry.ids())
def test_refuses_an_unknown_option(variant_id: str) -> None:
    variant = registry.get(variant_id)
    if variant.available() is not None:
        pytest.skip("cannot run here")
    with pytest.raises(AmiraError, match="no_such_option"):
        variant.open(Context(models_dir(), "moonshine-aed", 1, {}), no_such_option=1)


@pytest.mark.models
@pytest.mark.parametrize(
    ("variant_id", "family"),
    [(name, family) for name in registry.ids() for family in registry.get(name).families or ("",)],
)
def test_keeps_the_contract_of_its_axis(
    variant_id: str, family: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if "connection" in (*registry.get(variant_id).needs, variant_id.partition("/")[0]):
        request.getfixturevalue("triton")
    if needs := missing_from_this_process(variant_id):
        in_a_fresh_process(variant_id, family, needs)
        return
    check = check_streaming if variant_id in OWN_MODELS else CHECKS[variant_id.partition("/")[0], family]
    with opened(variant_id, family, tmp_path) as resource:
        check(resource)


@pytest.mark.models
@pytest.mark.parametrize("variant_id", [v for v in registry.ids("acoustic") if "ctc" in registry.get(v).families])
def test_streams(variant_id: str, tmp_path: Path) -> None:
    with opened(variant_id, "ctc", tmp_path, write_small_stream) as resource:
        check_streaming(resource)


def missing_from_this_process(variant_id: str) -> dict[str, str]:
    """What a process that opens the variant must be started with, and this one was not."""
    variant = registry.get(variant_id)
    if variant.available() is not None:
        return {}
    wanted = variant.process_environment(os.environ)
    return {name: value for name, value in wanted.items() if os.environ.get(name) != value}


def in_a_fresh_process(variant_id: str, family: str, environment: dict[str, str]) -> None:
    """Run the contract test of this variant in a process that is started as the variant wants it."""
    this = f"{__file__}::test_keeps_the_contract_of_its_axis[{variant_id}-{family}]"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", this]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_every_axis_can_be_configured() -> None:
    for axis in registry.axes():
        assert any(axis == checked for checked, _ in CHECKS)
        PipelineConfig(variants={axis: registry.ids(axis)[0]})
