"""Allocators in fresh processes that are really started with them, and in processes that are not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.commands import setup
from harness.plan import parse_plan
from pipelines import registry
from pipelines.allocators import libraries, process
from pipelines.allocators.libraries import JEMALLOC, LIBRARIES, MIMALLOC
from pipelines.assemble import process_environment
from pipelines.config import PipelineConfig
from pipelines.debian import UnobtainableError
from pipelines.errors import AmiraError
from tests.fakes.debian import make_repository, needs_apt
from tests.fakes.world import CLIPS, Bench, plan_of, plan_toml

MIB = 1 << 20
PROBE = """
import json, sys
from pathlib import Path
from pipelines import registry
from pipelines.allocators import process
from pipelines.registry import Context

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024

with registry.get(sys.argv[1]).open(Context(Path("."), "none", 1, {})) as name:
    said = {"name": name, "library": str(process.malloc_library()), "first": str(process.first_with_malloc())}
    live = [process.live_bytes()]
    large = bytearray(b"x") * (48 << 20)
    live.append(process.live_bytes())
    blocks = [bytes(2000) for _ in range(20_000)]
    live.append(process.live_bytes())
    full = anonymous()
    said["overhead"] = [full - live[-1]]
    # Every second block stays: its neighbours are free and cannot be given back.
    blocks = blocks[::2]
    del large
    live.append(process.live_bytes())
    said["overhead"].append(anonymous() - live[-1])
    rollup = Path("/proc/self/smaps").read_text().split("VmFlags:")
    said["advised"] = sum(" hg" in flags.split("\\n")[0] for flags in rollup[1:])
print(json.dumps(said | {"live": live}))
"""
ALLOCATORS = registry.ids("allocator")
PLAIN = {"LD_PRELOAD": "", "GLIBC_TUNABLES": ""}


def probe(variant_id: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, **PLAIN, **environment}
    return subprocess.run(
        [sys.executable, "-c", PROBE, variant_id], env=variables, capture_output=True, text=True, check=False
    )


def needs(variant_id: str) -> Any:
    problem = registry.get(variant_id).available()
    if problem is not None:
        pytest.skip(f"{problem.reason}. {problem.remedy}")
    return registry.get(variant_id)


@pytest.fixture(scope="module")
def probed() -> dict[str, dict[str, Any]]:
    """What each allocator that can run here said from a process of its own."""
    found = {}
    for variant_id in ALLOCATORS:
        variant = registry.get(variant_id)
        if variant.available() is None:
            done = probe(variant_id, variant.process_environment(PLAIN))
            assert done.returncode == 0, done.stderr
            found[variant_id] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("variant_id", ALLOCATORS)
def test_the_allocator_is_really_in_the_process(probed: dict[str, dict[str, Any]], variant_id: str) -> None:
    variant, said = needs(variant_id), probed[variant_id]
    if variant_id in ("allocator/jemalloc", "allocator/mimalloc"):
        path = libraries.find(variant.library)
        assert path is not None
        assert Path(said["library"]).samefile(path)
        assert said["name"].startswith(variant.library.name)
        assert said["name"][len(variant.library.name) + 1 :].split(".")[0].isdecimal()
    else:
        assert Path(said["library"]).name.startswith("libc.")
        assert said["name"].startswith("glibc 2.")


@pytest.mark.parametrize("variant_id", ALLOCATORS)
def test_live_bytes_follow_what_is_allocated_and_freed(probed: dict[str, dict[str, Any]], variant_id: str) -> None:
    needs(variant_id)
    before, large, blocks, after = probed[variant_id]["live"]
    assert 1 * MIB < before < 100 * MIB
    # Every allocator rounds up to a size class: a quarter more at the worst.
    assert 48 * MIB <= large - before <= 1.26 * 48 * MIB
    assert 40e6 <= blocks - large <= 1.3 * 40e6
    assert after - before == pytest.approx((blocks - large) / 2, rel=0.05)


@pytest.mark.parametrize("variant_id", ALLOCATORS)
def test_holes_between_live_blocks_are_overhead(probed: dict[str, dict[str, Any]], variant_id: str) -> None:
    needs(variant_id)
    full, holey = probed[variant_id]["overhead"]
    assert -0.3 * 48 * MIB < full < 30 * MIB
    assert holey - full > 0.8 * 20e6, "10,000 freed blocks of 2,000 bytes lie between live ones"


def test_only_the_tuned_glibc_advises_huge_pages(probed: dict[str, dict[str, Any]]) -> None:
    needs("allocator/glibc-hugepages")
    assert probed["allocator/glibc-hugepages"]["advised"] > probed["allocator/glibc"]["advised"]


@pytest.mark.parametrize(
    ("variant_id", "evidence"),
    [
        ("allocator/jemalloc", r"libjemalloc\.so\.2 is not mapped.*LD_PRELOAD=.*libjemalloc.*amira bench"),
        ("allocator/mimalloc", r"libmimalloc\.so\.2 is not mapped.*LD_PRELOAD=.*libmimalloc.*amira bench"),
        ("allocator/glibc-hugepages", r"GLIBC_TUNABLES did not have it.*GLIBC_TUNABLES=glibc\.malloc\.hugetlb=1"),
    ],
)
def test_a_process_that_was_not_started_so_is_refused(variant_id: str, evidence: str) -> None:
    needs(variant_id)
    done = probe(variant_id, {})
    assert done.returncode != 0
    with pytest.raises(AmiraError, match=evidence):
        raise AmiraError(done.stderr.splitlines()[-1])


def test_setting_the_environment_afterwards_is_no_way_around(monkeypatch: pytest.MonkeyPatch) -> None:
    variant = needs("allocator/glibc-hugepages")
    if "hugetlb" in process.started_with().get("GLIBC_TUNABLES", ""):
        pytest.skip("the tests themselves were started with it")
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    context = registry.Context(Path(), "none", 1, {})
    with pytest.raises(AmiraError, match="did not have it at its start"), variant.open(context):
        pass


def test_glibc_is_refused_where_another_malloc_or_the_tunable_is_in() -> None:
    jemalloc = needs("allocator/jemalloc").process_environment(PLAIN)
    for environment, evidence in (
        (jemalloc, "malloc comes from libjemalloc.so.2"),
        ({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}, "was started with GLIBC_TUNABLES=glibc.malloc.hugetlb=1"),
    ):
        done = probe("allocator/glibc", environment)
        assert done.returncode != 0
        assert evidence in done.stderr


def test_one_allocator_before_another_wins_and_the_other_is_refused() -> None:
    first, second = needs("allocator/jemalloc"), needs("allocator/mimalloc")
    both = first.process_environment(second.process_environment(PLAIN))
    assert len(both["LD_PRELOAD"].split(":")) == 2
    assert probe("allocator/jemalloc", both).returncode == 0
    assert "its malloc comes from libjemalloc.so.2" in probe("allocator/mimalloc", both).stderr


def test_what_is_set_already_is_kept() -> None:
    tunables = needs("allocator/glibc-hugepages").process_environment
    assert tunables({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0:glibc.malloc.tcache_count=0"}) == {
        "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0:glibc.malloc.hugetlb=1"
    }
    preload = needs("allocator/mimalloc").process_environment
    once = preload({"LD_PRELOAD": "/lib/one.so /lib/two.so"})
    assert once["LD_PRELOAD"].split(":")[1:] == ["/lib/one.so", "/lib/two.so"]
    assert preload(once) == once


def test_a_configuration_has_the_environment_of_its_variants() -> None:
    needs("allocator/mimalloc")
    with_one = PipelineConfig(variants={"allocator": "mimalloc", "kernel": "numpy"})
    assert list(process_environment(with_one, {})) == ["LD_PRELOAD"]
    assert process_environment(PipelineConfig(variants={"kernel": "numpy", "allocator": "glibc"}), {}) == {}


class TestBench:
    """The runner starts each case's process as its variants want it, and writes down what it saw."""

    def test_a_worker_has_the_environment_that_its_variant_wants(self, bench: Bench) -> None:
        bench.run(plan_of("surroundings", "sound"))

        assert {sample.text for sample in bench.stored().samples if sample.case == "surroundings"} == {"brass"}
        assert "AMIRA_TEST_METAL" not in os.environ

    def test_each_case_runs_on_its_own_allocator(self, bench: Bench) -> None:
        plan = plan_toml("sound", "witness").replace('{ peer = "sound" }', '{ peer = "sound", allocator = "mimalloc" }')
        needs("allocator/mimalloc")
        outcome = bench.run(parse_plan(plan, Path("plan.toml")))

        assert outcome.failures == ()
        names = {record.case: record.allocator for record in bench.stored().processes}
        assert names["sound"].startswith("mimalloc ")
        assert not names["witness"].startswith("mimalloc ")

    @pytest.mark.parametrize("allocator", ["jemalloc", "mimalloc"])
    def test_a_memory_limit_holds_under_another_allocator(self, bench: Bench, allocator: str) -> None:
        needs(f"allocator/{allocator}")
        plan = plan_toml("hungry", settings="memory_limit_mib = 400")
        on_it = plan.replace('{ peer = "hungry" }', f'{{ peer = "hungry", allocator = "{allocator}" }}')
        bench.run(parse_plan(on_it, Path("plan.toml")))

        (record,) = bench.stored().processes
        assert record.status == "failed"
        assert "out of memory" in str(record.error)
        assert record.peak_rss_bytes < 600 * MIB

    def test_memory_is_recorded_after_every_utterance_of_every_lap(self, bench: Bench) -> None:
        bench.run(plan_of("sound", settings="laps = 3"))

        run = bench.stored()
        steady = [sample for sample in run.samples if sample.phase == "steady"]
        assert run.manifest.laps == 3
        assert len(steady) == 3 * CLIPS
        for lap in range(3):
            assert len({sample.utterance for sample in steady if sample.lap == lap}) == CLIPS
        orders = [[sample.utterance for sample in steady if sample.lap == lap] for lap in range(3)]
        assert orders[0] != orders[1] or orders[1] != orders[2], "each lap has an order of its own"
        (record,) = run.processes
        assert all(MIB < sample.rss_bytes <= record.peak_rss_bytes for sample in run.samples)
        assert record.live_bytes > 0
        assert 0 < record.end_anonymous_bytes < record.end_rss_bytes <= record.peak_rss_bytes
        assert record.allocator

    def test_a_run_of_other_laps_is_not_resumed(self, bench: Bench) -> None:
        first = bench.run(plan_of("sound"))
        with pytest.raises(AmiraError, match="the plan's laps: 1 against 2"):
            bench.run(plan_of("sound", settings="laps = 2"), resume=first.path)


@pytest.fixture
def bare_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine whose system has no allocators, with an empty home."""
    monkeypatch.setenv("AMIRA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(libraries, "SYSTEM_FOLDERS", ())
    return tmp_path


def test_a_library_that_is_nowhere_comes_with_the_remedy(bare_system: Path) -> None:
    for variant_id, package in (("allocator/jemalloc", "libjemalloc2"), ("allocator/mimalloc", "libmimalloc2.0")):
        problem = registry.get(variant_id).available()
        assert problem is not None
        assert "is not on this machine" in problem.reason
        assert package in problem.remedy
        assert "amira setup allocators" in problem.remedy


def test_a_path_that_cannot_be_preloaded_is_a_reason(bare_system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMIRA_HOME", str(bare_system / "two words"))
    place = bare_system / "two words" / "build" / "libraries" / "jemalloc"
    place.mkdir(parents=True)
    (place / JEMALLOC.file).write_bytes(b"")
    problem = registry.get("allocator/jemalloc").available()
    assert problem is not None
    assert "with a space or a colon" in problem.reason


@needs_apt
def test_fetch_unpacks_packages_into_the_private_folder_once(
    bare_system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = {
        library.package: {
            f"usr/lib/some-linux/{library.file}": library.name.encode(),
            f"usr/share/doc/{library.package}/copyright": b"free",
        }
        for library in LIBRARIES
    }
    monkeypatch.setenv("APT_CONFIG", str(make_repository(bare_system / "debian", packages)))
    said: list[str] = []
    found = libraries.fetch(said.append)
    assert {name: path.read_text() for name, path in found.items()} == {"jemalloc": "jemalloc", "mimalloc": "mimalloc"}
    assert (found["jemalloc"].parent / "copyright").read_text() == "free"
    assert sorted(path.name for path in (bare_system / "home/build/libraries").iterdir()) == ["jemalloc", "mimalloc"]

    monkeypatch.setenv("PATH", "")
    assert libraries.fetch(said.append) == found


def test_the_command_tells_where_the_libraries_lie(bare_system: Path) -> None:
    for library in LIBRARIES:
        place = bare_system / "home" / "build" / "libraries" / library.name
        place.mkdir(parents=True)
        (place / library.file).write_bytes(b"")
    done = CliRunner().invoke(setup.app, ["allocators", "--json"])
    assert done.exit_code == 0
    assert [Path(path).name for path in json.loads(done.stdout).values()] == [JEMALLOC.file, MIMALLOC.file]


@needs_apt
def test_fetch_says_what_is_missing_and_gets_the_rest(bare_system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = {JEMALLOC.package: {"usr/share/nothing": b""}, MIMALLOC.package: {f"usr/lib/{MIMALLOC.file}": b"mi"}}
    monkeypatch.setenv("APT_CONFIG", str(make_repository(bare_system / "debian", packages)))
    with pytest.raises(UnobtainableError, match=r"^jemalloc: .*holds no libjemalloc\.so\.2.*stay unavailable"):
        libraries.fetch(lambda line: None)
    assert [path.name for path in (bare_system / "home/build/libraries").iterdir()] == ["mimalloc"]


@needs_apt
def test_a_package_that_apt_does_not_know(bare_system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APT_CONFIG", str(make_repository(bare_system / "debian", {})))
    with pytest.raises(UnobtainableError, match=r"could not fetch libjemalloc2.*could not fetch libmimalloc2"):
        libraries.fetch(lambda line: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnobtainableError, match="no apt-get and no dpkg-deb"):
        libraries.fetch(lambda line: None)
    assert list((bare_system / "home/build/libraries").iterdir()) == []
