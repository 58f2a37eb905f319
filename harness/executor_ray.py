"""`--executor ray`: a plan's processes run on the workers of a Ray cluster, with the results of a local run.

Timing: a node that offers the resource `amira_timing` is a worker with all its cores, and nothing of Ray's runs beside
it. Cases that are compared with each other, over however many steps, share one worker and run there in the plan's
shuffled order, as they would locally; groups that share no comparison may have workers of their own.

Accuracy: every node has as many workers as it has cores for, each pinned to its own. Cases and repeats spread over
them, and a big corpus is cut into shards (`harness.shards`).

A worker that dies is replaced and its block measured again, a few times; then the case has failed. A timing case stays
on its machine: where that is gone, the run is interrupted and can go on when it is back.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from harness import fingerprint
from harness.executor import Sink, Survey, Work
from harness.executor_ray_cluster import TIMING, cluster
from harness.plan import Plan
from harness.records import Case, Execution, ProcessRecord
from harness.scratch import Scratch
from harness.shards import SHARD_S, Outcome, Shard, ShardStore, merge, plan_of, split
from harness.station import Block, Pair
from pipelines.errors import AmiraError

TICK_S = 0.2
START_S = 120.0
"""How long workers may take to answer; on a cluster that others use, their cores may be taken."""
STOP_S = 15.0
TRIES = 3
CHUNK = 8 * 2**20
CONTROL = "control"


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for a worker.

    Attributes:
        node: Id of the node.
        cpus: CPUs that Ray reserves for it.
        cores: First core and number of cores, of the node's; `None` for all.
        resources: What else it reserves.
    """

    node: str
    cpus: int
    cores: tuple[int, int] | None
    resources: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Unit:
    """What a worker does at a time: a block, or a shard of it."""

    block: Block
    shard: Shard
    tries: int = 0


@dataclass(slots=True)
class Member:
    """A worker of ours.

    Attributes:
        slot: Where it is.
        actor: The handle of its present process.
        name: Its machine's.
        loaded: Which shard's audio it has.
        unit: What it is doing.
        todo: What only this worker may do.
        gone: Whether its machine is.
    """

    slot: Slot
    actor: Any
    name: str = ""
    loaded: Shard | None = None
    unit: Unit | None = None
    todo: deque[Unit] = field(default_factory=deque)
    gone: bool = False


class RayExecutor:
    """Runs blocks on a Ray cluster; see the module."""

    def __init__(self, address: str | None = None, shard_s: float = SHARD_S) -> None:
        """Nothing is started before the `with` block.

        Args:
            address: Of a cluster that runs; `None` to start one on this machine.
            shard_s: Seconds of audio in a shard of a corpus.
        """
        self._address, self._shard_s = address, shard_s
        self._stack = ExitStack()
        self._members: list[Member] = []
        self._messages: list[str] = []

    def __enter__(self) -> Self:
        self._ray, self._folder = self._stack.enter_context(cluster(self._address))
        self._stack.callback(self._dismiss)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def described(self) -> Execution:
        """See `harness.executor.Executor`."""
        workers = {member.name: self._machines[member.name] for member in self._members}
        return Execution(name="ray", version=self._ray.__version__, workers=workers)

    def survey(self, plan: Plan, models_dir: Path) -> Survey:
        """See `harness.executor.Executor`.

        Raises:
            AmiraError: No node can measure, none answers, or all have other code, libraries or models than this one.
        """
        slots = self._slots(plan)
        members = [Member(slot, self._employed(slot)) for slot in slots]
        asked = {member.actor.survey.remote(plan, models_dir): member for member in members}
        ready, late = self._ray.wait(list(asked), num_returns=len(asked), timeout=START_S)
        answers: dict[str, Survey] = {}
        self._machines: dict[str, str] = {}
        for ref in ready:
            try:
                name, words, answer = self._ray.get(ref)
            except self._ray.exceptions.RayError as error:
                raise AmiraError(
                    f"a worker cannot measure: {_reason(error)}. Every node needs this checkout, its libraries and its "
                    "models, at the same places as here"
                ) from error
            asked[ref].name, answers[name], self._machines[name] = name, answer, words
        for ref in late:
            self._ray.kill(asked[ref].actor)
        if late:
            self._messages.append(f"{len(late)} of {len(asked)} workers have no free cores and are left out")
        if not answers:
            raise AmiraError(
                f"no worker of the cluster answered within {START_S:g} s: their cores are taken, or they cannot start. "
                "See what runs there with: ray status"
            )
        agreed = self._agreed(answers)
        self._members = [member for member in members if member.name in agreed]
        for member in members:
            if member.name and member.name not in agreed:
                self._ray.kill(member.actor)
        return answers[agreed[0]]

    def measure(self, work: Work, blocks: Sequence[Block], sink: Sink) -> bool:
        """See `harness.executor.Executor`."""
        for message in self._messages:
            sink.note(message)
        if work.sides:
            raise AmiraError("two checkouts are compared on one machine. Use --executor local")
        return _Campaign(self._ray, self._members, self._employed, work, sink, self._shard_s).run(blocks)

    def _slots(self, plan: Plan) -> list[Slot]:
        nodes = [node for node in self._ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
        nodes.sort(key=lambda node: str(node["NodeID"]))
        if plan.measures == "timing":
            fit = [node for node in nodes if node["Resources"].get(TIMING, 0) >= 1]
            if not fit:
                raise AmiraError(
                    f"no node of the cluster offers the resource '{TIMING}', so there is none to time cases on. "
                    "Start one that does nothing else with: "
                    f"ray start --address=HOST:PORT --resources='{{\"{TIMING}\": 1}}'"
                )
            return [Slot(node["NodeID"], int(node["Resources"]["CPU"]), None, {TIMING: 1}) for node in fit]
        wanted = [case.pipeline.threads * plan.scenario.workers for case in plan.cases]
        slots = []
        for node in nodes:
            cpus = int(node["Resources"]["CPU"])
            width = max((threads for threads in wanted if threads <= cpus), default=cpus)
            slots += [Slot(node["NodeID"], width, (first, width)) for first in range(0, cpus - width + 1, width)]
        if not slots:
            raise AmiraError("the cluster has no node with a CPU. Start one with: ray start --address=HOST:PORT")
        return slots

    def _employed(self, slot: Slot) -> Any:
        """Start a worker."""
        from harness.executor_ray_worker import Worker

        strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(slot.node, soft=False)
        hired = self._ray.remote(
            num_cpus=slot.cpus,
            resources=dict(slot.resources),
            scheduling_strategy=strategy,
            max_restarts=0,
            max_task_retries=0,
            concurrency_groups={CONTROL: 1},
        )(Worker)
        return hired.remote(_measured_variables(), self._folder, slot.cores)

    def _agreed(self, answers: Mapping[str, Survey]) -> list[str]:
        """The workers whose measurements belong together: those that are like the first.

        Raises:
            AmiraError: They have other code than this process.
        """
        names = sorted(answers)
        ours = fingerprint.code(fingerprint.ROOT)
        first = answers[names[0]].fingerprint
        for key in ("sources", "lock"):
            if first["code"][key] != ours[key]:
                raise AmiraError(
                    f"the workers have other code than this checkout (code.{key}: {first['code'][key][:12]} there, "
                    f"{ours[key][:12]} here). Bring every node to the same commit"
                )
        agreed = []
        for name in names:
            found = fingerprint.differences(first, answers[name].fingerprint)
            if found:
                self._messages.append(f"{name} is left out, it differs from {names[0]}: {'; '.join(found[:3])}")
            else:
                agreed.append(name)
        return agreed

    def _dismiss(self) -> None:
        """Have the workers clean up; what does not answer is ended."""
        leaving = [member.actor.close.remote() for member in self._members if not member.gone]
        if leaving:
            self._ray.wait(leaving, num_returns=len(leaving), timeout=5)
        for member in self._members:
            self._ray.kill(member.actor)


class _Campaign:
    """One `measure` of the executor: who does what, and what comes back."""

    def __init__(
        self,
        ray: Any,
        members: Sequence[Member],
        employ: Callable[[Slot], Any],
        work: Work,
        sink: Sink,
        shard_s: float,
    ) -> None:
        self._ray, self._members, self._employ = ray, members, employ
        self._work, self._sink = work, sink
        self._accuracy = work.plan.measures == "accuracy"
        whole = Shard(0, 1, 0, len(work.scratch.utterances))
        self._shards = split(work.scratch, shard_s) if self._accuracy else [whole]
        self._store = ShardStore(work.folder, work.scratch)
        self._found: dict[Pair, dict[int, Outcome]] = {}
        self._begun: set[Pair] = set()
        self._over: set[Pair] = set()
        self._shared: deque[Unit] = deque()
        self._busy: dict[Any, Member] = {}

    def run(self, blocks: Sequence[Block]) -> bool:
        """Measure all that can be; whether that was all."""
        self._distribute(blocks)
        while not self._sink.stopped():
            for member in self._members:
                if member.unit is None and not member.gone and (unit := self._next(member)):
                    self._begin(member, unit)
            if not self._busy:
                break
            self._listen(TICK_S)
        if self._sink.stopped():
            self._wind_up()
            return False
        left = len(self._shared) + sum(len(member.todo) for member in self._members)
        if not left:
            self._store.clear()
        return not left

    def _distribute(self, blocks: Sequence[Block]) -> None:
        if not self._accuracy:
            by_name = {member.name: member for member in self._members}
            for block, name in _placed(blocks, self._work, list(by_name)):
                by_name[name].todo.append(Unit(block, self._shards[0]))
            return
        for block in blocks:
            ((case, repeat),) = block
            for shard in self._shards:
                before = self._store.load(case.id, repeat, shard)
                if before is not None:
                    self._keep(case, repeat, shard, before)
                else:
                    self._shared.append(Unit(block, shard))

    def _next(self, member: Member) -> Unit | None:
        """The next thing for a worker that is still wanted."""
        queue = self._shared if self._accuracy else member.todo
        while queue:
            unit = queue.popleft()
            if any(self._live(case, repeat) for case, repeat in unit.block):
                return unit
        return None

    def _live(self, case: Case, repeat: int) -> bool:
        """Whether this is still wanted: not if it is over, or the case has failed in another repeat."""
        pair = (case.id, repeat)
        if pair not in self._over and not self._sink.wanted(case, repeat):
            self._over.add(pair)
        return pair not in self._over

    def _begin(self, member: Member, unit: Unit) -> None:
        member.unit = unit
        for case, repeat in unit.block:
            if (case.id, repeat) not in self._begun:
                self._begun.add((case.id, repeat))
                self._sink.started(case.id, repeat)
        try:
            if member.loaded != unit.shard:
                self._load(member, unit.shard)
            plan = plan_of(self._work.plan, unit.shard)
            self._busy[member.actor.measure.remote(plan, self._work.models_dir, unit.block)] = member
        except self._ray.exceptions.RayError as error:
            self._lost(member, error)

    def _load(self, member: Member, shard: Shard) -> None:
        """Send a worker its audio, piece by piece, so that no store needs to hold it whole."""
        scratch, places = self._work.scratch, slice(shard.start, shard.stop)
        member.loaded = None
        self._answered(member.actor.begin.remote(scratch.utterances[places], scratch.sizes[places]))
        for chunk in _audio(scratch, shard):
            self._answered(member.actor.audio.remote(chunk))
        member.loaded = shard

    def _answered(self, ref: Any) -> None:
        """Wait for an answer, but not if the user wants to stop.

        Raises:
            RayError: The worker died, or did not answer in time.
        """
        deadline = time.monotonic() + START_S
        while not self._ray.wait([ref], timeout=TICK_S)[0]:
            if self._sink.stopped() or time.monotonic() > deadline:
                raise self._ray.exceptions.GetTimeoutError("it does not answer")
        self._ray.get(ref)

    def _listen(self, timeout_s: float) -> None:
        """Take what has come back."""
        ready, _ = self._ray.wait(list(self._busy), timeout=timeout_s)
        for ref in ready:
            member = self._busy.pop(ref)
            try:
                outcome = self._ray.get(ref)
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause if isinstance(error.cause, AmiraError) else error from None
            except self._ray.exceptions.RayError as error:
                self._lost(member, error)
            else:
                unit, member.unit = member.unit, None
                assert unit is not None
                self._take(unit, outcome)

    def _take(self, unit: Unit, outcome: Outcome) -> None:
        for note in outcome.notes:
            self._sink.note(note)
        if None in outcome.records:  # it was told to stop
            return
        ((case, repeat),) = unit.block
        if not self._live(case, repeat):
            return  # another shard of it has failed meanwhile
        if unit.shard.count > 1:
            self._store.save(case.id, repeat, unit.shard, outcome)
        self._keep(case, repeat, unit.shard, outcome)

    def _keep(self, case: Case, repeat: int, shard: Shard, outcome: Outcome) -> None:
        """A shard of a case is there; once all are, or one has failed, the case is over."""
        pair = (case.id, repeat)
        found = self._found.setdefault(pair, {})
        found[shard.index] = outcome
        failed = any(record is not None and record.status == "failed" for record in outcome.records)
        if len(found) < shard.count and not failed:
            return
        outcomes = [found[index] for index in sorted(found)]
        record, samples = merge(self._work.plan, self._work.scratch, outcomes)
        for sample in samples:
            self._sink.sample(sample)
        self._sink.done(record, [part.worker for part in outcomes])
        self._over.add(pair)
        self._store.forget(case.id, repeat, self._shards)
        del self._found[pair]

    def _lost(self, member: Member, error: Exception) -> None:
        """A worker died: replace it and try again, unless it dies of this."""
        unit, member.unit, member.loaded = member.unit, None, None
        assert unit is not None
        if self._sink.stopped():
            return
        unit.tries += 1
        if unit.tries >= TRIES:
            reason = f"its worker died {unit.tries} times while it was measured: {_reason(error)}"
            for case, repeat in unit.block:
                record = ProcessRecord(case.id, repeat, "failed", reason)
                self._keep(case, repeat, unit.shard, Outcome((record,), (), (), member.name))
        else:
            self._sink.note(f"{member.name} died ({_reason(error)}); what it was doing is measured again")
            (self._shared if self._accuracy else member.todo).appendleft(unit)
        if any(node["NodeID"] == member.slot.node and node["Alive"] for node in self._ray.nodes()):
            member.actor = self._employ(member.slot)
        else:
            member.gone = True
            rest = "" if self._accuracy or not member.todo else ", and its cases are timed on no other"
            self._sink.note(f"{member.name} has left the cluster{rest}")

    def _wind_up(self) -> None:
        """End what is being measured, and keep what ends well all the same."""
        for member in self._busy.values():
            member.actor.stop.options(concurrency_group=CONTROL).remote()
        deadline = time.monotonic() + STOP_S
        while self._busy and time.monotonic() < deadline:
            self._listen(TICK_S)


def _placed(blocks: Sequence[Block], work: Work, workers: Sequence[str]) -> Iterator[tuple[Block, str]]:
    """A worker for each block: cases that are compared, directly or by way of others, have the same.

    The largest groups are placed first, each where there is least to do. A group that was begun stays where it was.

    Raises:
        AmiraError: A group was begun on a worker that is not there.
    """
    groups = _groups(work.plan.cases)
    sizes: dict[str, int] = {}
    for block in blocks:
        group = groups[block[0][0].id]
        sizes[group] = sizes.get(group, 0) + 1
    before = {groups[case]: names[0] for case, names in work.placed.items() if case in groups and names}
    load = dict.fromkeys(sorted(workers), 0)
    placed: dict[str, str] = {}
    for group in sorted(sizes, key=lambda name: (-sizes[name], name)):
        worker = before.get(group) or min(load, key=lambda name: load[name])
        if worker not in load:
            raise AmiraError(
                f"case '{group}' and those it is compared with were measured on {worker}, which this cluster has not. "
                "Bring it back to go on with this run, or start a new one"
            )
        placed[group] = worker
        load[worker] += sizes[group]
    for block in blocks:
        yield block, placed[groups[block[0][0].id]]


def _groups(cases: Sequence[Case]) -> dict[str, str]:
    """Case id to the first case of all that it is compared with, over however many steps."""
    first = {case.id: case.id for case in cases}

    def root(name: str) -> str:
        while first[name] != name:
            name = first[name]
        return name

    for case in cases:
        for other in (case.compare_to, case.of):
            if other in first:
                one, two = sorted((root(case.id), root(other)), key=list(first).index)
                first[two] = one
    return {case.id: root(case.id) for case in cases}


def _audio(scratch: Scratch, shard: Shard) -> Iterator[bytes]:
    """The bytes of a shard's utterances."""
    sizes = [size for _, size in scratch.sizes]
    left = sum(sizes[shard.start : shard.stop])
    with scratch.audio.open("rb") as file:
        file.seek(sum(sizes[: shard.start]))
        while left:
            chunk = file.read(min(CHUNK, left))
            left -= len(chunk)
            yield chunk


def _measured_variables() -> dict[str, str]:
    """The variables that a measurement depends on, as this process has them, and where its packages come from."""
    return {
        name: value
        for name, value in os.environ.items()
        if fingerprint.VARIABLES.fullmatch(name) or name == "PYTHONPATH"
    }


def _reason(error: Exception) -> str:
    """Ray's words in one line, without its advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    words, _, _ = (lines[-1] if lines else type(error).__name__).partition(" Some common causes")
    return words.rpartition("Worker exit detail: ")[2].rstrip(". ")[:200]
