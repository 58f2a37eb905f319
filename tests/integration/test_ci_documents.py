"""What ci/README.md tells other people to copy is what GitHub and the command line take."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from pipelines.paths import home

README = (home() / "ci" / "README.md").read_text("utf-8")
BLOCKS = dict(re.findall(r"^```(\w+)\n(.*?)^```$", README[README.index("ten lines") :], re.MULTILINE | re.DOTALL)[:2])
ENGINE = """
from contextlib import contextmanager
from time import perf_counter_ns

from pipelines.contracts import ENGINE_STAGE, Hypothesis
from pipelines.registry import Variant


class MyEngine(Variant):
    id = "peer/my-engine"
    summary = "takes its time"

    @classmethod
    @contextmanager
    def _open_impl(cls, context, options):
        yield cls()

    def warm_up(self):
        pass

    def recognize(self, pcm, trace):
        with trace.span(ENGINE_STAGE):
            end = perf_counter_ns() + MS * 1_000_000
            while perf_counter_ns() < end:
                pass
        return (Hypothesis("hello", (), 0.0),), 0
"""


def test_the_workflows_are_what_github_takes(tmp_path: Path) -> None:
    (tmp_path / "readme.yml").write_text(BLOCKS["yaml"])
    files = [tmp_path / "readme.yml", *(home() / ".github" / "workflows").glob("*.yml")]
    assert len(files) == 3
    assert checked(files).returncode == 0, checked(files).stdout
    (tmp_path / "broken.yml").write_text(BLOCKS["yaml"].replace("runs-on", "runs-at"))
    assert "runs-on" in checked([tmp_path / "broken.yml"]).stdout


def checked(files: list[Path]) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.github-workflows",
        *map(str, files),
    ]
    return subprocess.run(command, capture_output=True, text=True)


def test_commands_in_the_workflows_have_the_options_that_they_are_given() -> None:
    texts = [BLOCKS["yaml"], *(path.read_text() for path in (home() / ".github" / "workflows").glob("*.yml"))]
    lines = [
        step["run"] for text in texts for step in yaml.safe_load(text)["jobs"].popitem()[1]["steps"] if "run" in step
    ]
    options = {option for line in lines for option in re.findall(r"amira gate[^&]*?(--[a-z]+)", line)}
    known = subprocess.run(
        [sys.executable, "-m", "harness.cli", "gate", "--help"], capture_output=True, text=True
    ).stdout
    assert options
    assert all(option in known for option in options)


@pytest.mark.usefixtures("corpus_folder")
def test_the_ten_lines_turn_red_when_the_engine_becomes_slower(tmp_path: Path, corpus_folder: Path) -> None:
    corpus_folder.rename(tmp_path / "audio")
    (tmp_path / "plan.toml").write_text(BLOCKS["toml"].replace("laps = 8", "laps = 2"))
    assert tomllib.loads(BLOCKS["toml"])["corpus"] == "./audio"
    for side, milliseconds in (("base", 2), ("head", 4)):
        info = tmp_path / side / "my_engine-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-engine\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[amira.variants]\npeer/my-engine = my_engine:MyEngine\n")
        (tmp_path / side / "my_engine.py").write_text(ENGINE.replace("MS", str(milliseconds)))
    steps = [step["run"] for step in yaml.safe_load(BLOCKS["yaml"])["jobs"]["gate"]["steps"] if "run" in step]
    base, head, gate = [line for line in steps if line.startswith("amira ")]
    for side, line in (("base", base), ("head", head)):
        words, _, target = line.partition(" > ")
        done = amira(words, tmp_path, side)
        assert done.returncode == 0, done.stderr
        (tmp_path / target).write_text(done.stdout)
    names = {side: json.loads((tmp_path / f"{side}.json").read_text())["run"] for side in ("base", "head")}
    for side, name in names.items():
        gate = gate.replace(f'"$(jq -r .run {side}.json)"', name)
    done = amira(gate, tmp_path, "head")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "latency +" in (tmp_path / "verdict" / "gate.md").read_text()


@pytest.fixture
def repository(tmp_path: Path, corpus_folder: Path) -> Path:
    """A package of one variant in a git repository, with its plan and audio; the working tree is slower than HEAD."""
    folder = tmp_path / "theirs"
    (folder / "src").mkdir(parents=True)
    corpus_folder.rename(folder / "audio")
    (folder / "plan.toml").write_text(BLOCKS["toml"].replace("laps = 8", "laps = 2"))
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "my-engine"\nversion = "1.0"\n'
        '[project.entry-points."amira.variants"]\n"peer/my-engine" = "my_engine:MyEngine"\n'
    )
    engine = folder / "src" / "my_engine.py"
    engine.write_text(ENGINE.replace("MS", "2"))
    for command in ("init -q", "add .", "-c user.name=me -c user.email=me@example.org commit -q -m first"):
        subprocess.run(["git", "-C", str(folder), *command.split()], check=True)
    engine.write_text(ENGINE.replace("MS", "4"))
    return folder


def test_a_repository_is_gated_call_by_call(tmp_path: Path, repository: Path) -> None:
    (tmp_path / "gate.toml").write_text("[repeats]\nbatch = 4\nmost = 16\n")
    line = "amira gate --repository theirs --plan theirs/plan.toml --against HEAD --config gate.toml --json"

    worse = amira(line, tmp_path)

    assert worse.returncode == 1, worse.stderr
    found = json.loads(worse.stdout)
    assert found["how"] == "interleaved"
    assert found["baseline"] != found["candidate"]
    latency = next(row for row in found["cases"][0]["rows"] if row["metric"] == "latency")
    assert latency["verdict"] == "worse"
    assert latency["change"] > 0.5, "4 ms against 2 ms: each side has imported its own package"
    assert not any("the same" in note for note in found["notes"])

    for arguments, message in (
        ("--repository theirs/audio --plan theirs/plan.toml", "has no pyproject.toml"),
        ("--repository theirs --plan theirs/plan.toml --against nowhere", "commit 'nowhere' is not in this repository"),
        ("--repository theirs", "Name it with --plan PLAN"),
        ("--repository theirs --plan theirs/plan.toml --baseline auto", "Give one of them"),
    ):
        refused = amira(f"amira gate {arguments}", tmp_path)
        assert (refused.returncode, message in refused.stderr) == (2, True), refused.stderr


def amira(line: str, folder: Path, side: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a line of the workflow, with one side's package installed where one is named."""
    environment = os.environ | {"AMIRA_HOME": str(folder)}
    if side is not None:
        environment["PYTHONPATH"] = str(folder / side)
    command = [sys.executable, "-m", "harness.cli", *shlex.split(line)[1:]]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=240)
