"""Plans: what a good one means, and one clear message for each way to get it wrong."""

from __future__ import annotations

from itertools import pairwise, product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.plan import Plan, find_plan, load_plan, parse_plan
from pipelines import registry
from pipelines.errors import AmiraError

ROOT = Path(__file__).resolve().parents[2]
HEAD = 'name = "p"\ntitle = "P"\ncorpus = "starter"\n'
BASE = """
[base.variants]
acoustic = "ort@fp32"
decoder = "aed-greedy"
kernel = "numpy"
memory = "fresh"
"""
CASE = '\n[[case]]\nid = "one"\ntitle = "One"\n'
AXES = {axis: [name.partition("/")[2] for name in registry.ids(axis)] for axis in ("acoustic", "kernel", "memory")}


def _plan(text: str) -> Plan:
    return parse_plan(text, Path("here/plan.toml"))


def test_the_default_plan_is_a_ladder_and_a_rival() -> None:
    plan = load_plan(ROOT / "experiments" / "default" / "plan.toml")

    rungs = [case for case in plan.cases if case.rung]
    beside = [case for case in plan.cases if not case.rung]
    assert plan.cases == (*rungs, *beside)
    assert [case.compare_to for case in rungs] == [None, *(case.id for case in rungs[:-1])]
    [peer] = [case for case in beside if "peer" in case.pipeline.variants]
    assert peer.compare_to in {case.id for case in rungs}
    assert peer.pipeline.variants == {"peer": "peer/moonshine-cpp"}
    assert all(case.compare_to in {other.id for other in plan.cases} for case in beside)
    for below, above in pairwise(rungs):
        changed = [axis for axis, name in above.pipeline.variants.items() if below.pipeline.variants[axis] != name]
        assert len(changed) == 1, f"rung '{above.id}' makes one change"


def test_settings_have_defaults_and_are_taken_over() -> None:
    plan = _plan(HEAD + BASE + CASE)
    assert (plan.repeats, plan.warm_up, plan.memory_limit_mib, plan.seed) == (3, 1, None, 0)
    assert plan.corpus_limit.max_clips is None

    settings = "repeats = 5\nwarm_up = 0\ntimeout_s = 2.5\nmemory_limit_mib = 900\nseed = 4\n"
    limit = "[corpus_limit]\nmax_clips = 7\nmax_seconds = 30\n"
    plan = _plan(HEAD + settings + limit + BASE + CASE)
    assert (plan.repeats, plan.warm_up, plan.timeout_s, plan.memory_limit_mib, plan.seed) == (5, 0, 2.5, 900, 4)
    assert (plan.corpus_limit.max_clips, plan.corpus_limit.max_seconds) == (7, 30)
    assert plan.source.startswith(HEAD)


rung = st.fixed_dictionaries({}, optional={axis: st.sampled_from(names) for axis, names in AXES.items()})


@given(st.lists(rung, min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_a_ladder_accumulates_its_changes(changes: list[dict[str, str]]) -> None:
    text = HEAD + BASE
    for number, change in enumerate(changes):
        inside = ", ".join(f'{axis} = "{name}"' for axis, name in change.items())
        text += f'\n[[ladder]]\nid = "r{number}"\ntitle = "R"\nvariants = {{ {inside} }}\n'

    cases = _plan(text).cases

    now = {"acoustic": "ort@fp32", "decoder": "aed-greedy", "kernel": "numpy", "memory": "fresh"}
    for case, change in zip(cases, changes, strict=True):
        now = {**now, **change}
        assert case.pipeline.variants == {axis: f"{axis}/{name}" for axis, name in now.items()}


@given(
    st.fixed_dictionaries(
        {axis: st.lists(st.sampled_from(names), min_size=1, unique=True) for axis, names in AXES.items()}
    ),
    st.lists(rung.filter(bool), max_size=2),
)
@settings(max_examples=60, deadline=None)
def test_a_matrix_is_the_product_of_its_axes_without_what_is_excluded(
    axes: dict[str, list[str]], exclude: list[dict[str, str]]
) -> None:
    exclude = [entry for entry in exclude if all(name in axes[axis] for axis, name in entry.items())]
    wanted = [
        dict(zip(axes, names, strict=True))
        for names in product(*axes.values())
        if not any(all(names[list(axes).index(axis)] == name for axis, name in entry.items()) for entry in exclude)
    ]
    tables = ", ".join("{" + ", ".join(f'{a} = "{n}"' for a, n in entry.items()) + "}" for entry in exclude)
    text = HEAD + BASE + "\n[matrix]\n" + "".join(f"{axis} = {names}\n" for axis, names in axes.items())
    text += f"exclude = [{tables}]\n"
    if not wanted:
        with pytest.raises(AmiraError, match="leaves no combination"):
            _plan(text)
        return

    cases = _plan(text).cases

    assert [{axis: case.pipeline.variants[axis] for axis in axes} for case in cases] == [
        {axis: f"{axis}/{name}" for axis, name in combination.items()} for combination in wanted
    ]
    assert all(case.pipeline.variants["decoder"] == "decoder/aed-greedy" for case in cases)
    assert [case.compare_to for case in cases] == [None, *[cases[0].id] * (len(cases) - 1)]


def test_a_case_starts_from_the_base_or_from_nothing() -> None:
    text = HEAD + "[base]\nmodel = 'm'\nthreads = 2\n" + BASE
    text += CASE + "variants = { memory = 'memory/pooled' }\n"
    text += '\n[[case]]\nid = "two"\ntitle = "Two"\nbase = "none"\nvariants = { peer = "moonshine-cpp" }\nthreads = 1\n'
    text += 'compare_to = "one"\n'

    one, two = _plan(text).cases

    assert one.pipeline.variants["memory"] == "memory/pooled"
    assert one.pipeline.variants["kernel"] == "kernel/numpy"
    assert (one.pipeline.model, one.pipeline.threads, one.compare_to) == ("m", 2, None)
    assert two.pipeline.variants == {"peer": "peer/moonshine-cpp"}
    assert (two.pipeline.model, two.pipeline.threads, two.compare_to) == ("m", 1, "one")


@pytest.mark.parametrize(
    ("corpus", "location"),
    [
        ("starter", "starter"),
        ("shared:dev/an4", "shared:dev/an4"),
        ("/data/mine", "/data/mine"),
        ("./mine", str(Path.cwd() / "here" / "mine")),
    ],
)
def test_a_corpus_beside_the_plan_is_found_from_everywhere(corpus: str, location: str) -> None:
    plan = _plan(HEAD.replace("starter", corpus) + BASE + CASE)

    assert plan.corpus == corpus
    assert plan.corpus_location == location


WRONG = {
    "an unknown key": ("repeat = 2\n" + BASE + CASE, r"key 'repeat' does not exist.*Did you mean 'repeats'\?"),
    "an unknown key of a case": (
        BASE + CASE + "compare = 'x'\n",
        r"key 'compare' does not exist.*Did you mean 'compare_to'\?.*stands at 'case.0.compare'",
    ),
    "an unknown key of a rung": (
        BASE + '\n[[ladder]]\nid = "a"\ntitle = "A"\nvariant = {}\n',
        r"key 'variant' does not exist.*Did you mean 'variants'",
    ),
    "an unknown key of the base": ("[base]\nthread = 2\n" + BASE + CASE, r"key 'thread'.*Did you mean 'threads'"),
    "an unknown key of the limit": ("[corpus_limit]\nclips = 2\n" + BASE + CASE, r"key 'clips'.*max_clips"),
    "an unknown variant": (
        BASE.replace('"fresh"', '"frech"') + CASE,
        r"case 'one': variant 'memory/frech' does not exist.*Did you mean 'memory/fresh'\?.*amira variants",
    ),
    "an unknown axis": (
        BASE + "memori = 'fresh'\n" + CASE,
        r"axis 'memori' does not exist.*Did you mean 'memory'\?",
    ),
    "no cases": (BASE, r"has no cases.*\[\[ladder\]\], \[matrix\] or \[\[case\]\]"),
    "an empty matrix": (BASE + "[matrix]\n", "has no cases"),
    "a case without variants": (CASE, "case 'one' has no variants"),
    "an id twice": (BASE + CASE + CASE, "case id 'one' is there 2 times"),
    "an id that is no name": (BASE + CASE.replace("one", "../one"), r"case.0.id = '../one': .*pattern"),
    "compared with nobody": (
        BASE + CASE + "compare_to = 'on'\n" + CASE.replace("one", "once"),
        r"case 'on' does not exist; have: once. Did you mean 'once'\? Mend compare_to of case 'one'",
    ),
    "compared with itself": (BASE + CASE + "compare_to = 'one'\n", "case 'one' is compared with itself"),
    "not TOML": ("a b\n", r"is not TOML: .*line 4"),
    "out of range": ("repeats = 0\n" + BASE + CASE, r"repeats = 0: .*greater than or equal to 1"),
    "of another type": ("warm_up = 'x'\n" + BASE + CASE, r"warm_up = 'x': .*integer"),
    "an unknown start": (BASE + CASE + "base = 'nothing'\n", r"case.0.base = 'nothing': .*'plan' or 'none'"),
    "an unknown option": (
        BASE + CASE + "options = { memory = { size = 1 } }\n",
        "option 'size' does not exist.*option of variant 'memory/fresh'",
    ),
    "options without a variant": (
        BASE + CASE + "options = { peer = { size = 1 } }\n",
        "axis 'peer' does not exist.*need a variant",
    ),
    "an unknown axis in a matrix": (BASE + "[matrix]\nkernal = ['numpy']\n", "axis 'kernal'.*Did you mean 'kernel'"),
    "a matrix axis that is no list": (BASE + "[matrix]\nkernel = 'numpy'\n", "matrix axis 'kernel' is 'numpy'"),
    "a matrix axis without variants": (BASE + "[matrix]\nkernel = []\n", r"matrix axis 'kernel' is \[\]"),
    "an exclusion of nothing": (
        BASE + "[matrix]\nkernel = ['numpy']\nexclude = [{ kernel = 'scalar' }]\n",
        "variant 'scalar' does not exist; have: numpy.*matrix.exclude",
    ),
    "an exclusion on no axis": (
        BASE + "[matrix]\nkernel = ['numpy']\nexclude = [{ memory = 'fresh' }]\n",
        "axis 'memory' does not exist.*axes of the matrix",
    ),
    "an exclusion that is no table": (
        BASE + "[matrix]\nkernel = ['numpy']\nexclude = ['numpy']\n",
        r"matrix.exclude is \['numpy'\]",
    ),
    "exclusions alone": (BASE + "[matrix]\nexclude = [{ kernel = 'numpy' }]\n", "exclusions but no axes"),
    "a matrix variant twice": (BASE + "[matrix]\nkernel = ['numpy', 'numpy']\n", "case id 'numpy' is there 2 times"),
}


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG)
def test_each_mistake_is_one_clear_message(text: str, message: str) -> None:
    with pytest.raises(AmiraError, match=message) as caught:
        _plan(HEAD + text)

    assert caught.value.exit_code == 2
    assert str(caught.value).startswith("plan 'here/plan.toml'")
    assert "\n" not in str(caught.value)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(AmiraError, match="corpus: Field required"):
        _plan('name = "p"\ntitle = "P"\n' + BASE + CASE)


def test_the_number_of_other_mistakes_is_told() -> None:
    with pytest.raises(AmiraError, match="1 more after it"):
        _plan(HEAD + "repeats = 0\nwarm_up = -1\n" + BASE + CASE)


def test_options_go_with_the_variant_that_they_were_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from pydantic import BaseModel

    from pipelines.memory import PooledMemory

    class Options(BaseModel):
        slots: int = 1

    monkeypatch.setattr(PooledMemory, "options", Options)
    text = HEAD + BASE.replace('"fresh"', '"pooled"') + "[base.options.memory]\nslots = 8\n"
    text += '\n[[ladder]]\nid = "a"\ntitle = "A"\nvariants = { memory = "memory/pooled" }\n'
    text += '\n[[ladder]]\nid = "b"\ntitle = "B"\nvariants = { memory = "fresh" }\n'

    pooled, fresh = _plan(text).cases

    assert pooled.pipeline.options == {"memory": {"slots": 8}}
    assert fresh.pipeline.options == {}


@given(st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_no_text_gives_anything_but_a_plan_or_a_message(text: str) -> None:
    for candidate in (text, HEAD + text, HEAD + BASE + CASE + text):
        try:
            assert _plan(candidate).cases
        except AmiraError as error:
            assert "here/plan.toml" in str(error)


TABLE_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["id", "kernel", "base"]), inner, max_size=2)
    ),
    max_leaves=4,
)


@pytest.mark.parametrize("key", ["name", "corpus_limit", "base", "ladder", "matrix", "case", "timeout_s"])
@given(value=TABLE_VALUES)
@settings(max_examples=25, deadline=None)
def test_a_value_of_any_shape_is_a_plan_or_a_message(key: str, value: object) -> None:
    from unittest.mock import patch

    data = {"name": "p", "title": "P", "corpus": "c", key: value}
    with patch("harness.plan.tomllib.loads", return_value=data):
        try:
            assert _plan("").cases
        except AmiraError as error:
            assert "here/plan.toml" in str(error)


class TestFinding:
    @pytest.fixture
    def home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        folder = tmp_path / "home" / "experiments" / "beam"
        folder.mkdir(parents=True)
        (folder / "plan.toml").write_text(HEAD, encoding="utf-8")
        monkeypatch.setenv("AMIRA_HOME", str(tmp_path / "home"))
        monkeypatch.chdir(tmp_path)
        return folder

    def test_a_file_a_folder_or_the_name_of_an_experiment(self, home: Path) -> None:
        for name in (str(home / "plan.toml"), str(home), "beam"):
            assert find_plan(name).samefile(home / "plan.toml")

    def test_an_unknown_name_gets_the_nearest(self, home: Path) -> None:
        with pytest.raises(AmiraError, match=r"plan 'beem' does not exist; have: beam. Did you mean 'beam'\?"):
            find_plan("beem")

    def test_a_folder_without_a_plan(self, home: Path, tmp_path: Path) -> None:
        with pytest.raises(AmiraError, match=r"has no plan.toml"):
            find_plan(str(tmp_path))

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(AmiraError, match="cannot be read: No such file or directory"):
            load_plan(tmp_path / "plan.toml")

    def test_a_file_that_is_no_text(self, tmp_path: Path) -> None:
        (tmp_path / "plan.toml").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(AmiraError, match="it is not UTF-8 text"):
            load_plan(tmp_path / "plan.toml")
