"""Progress: what is read from a run's files, the arithmetic of what is left, and how it is said."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import psutil
import pytest

from made_study import experiment, small
from vitrail import hashes
from vitrail.config import STEMS, load
from vitrail.planning import plan_study
from vitrail.progress import notes, terminal, words
from vitrail.progress.bars import Bar, Log, last_bar
from vitrail.progress.estimate import (
    ENOUGH,
    Step,
    held_up,
    share_done,
    slowness,
    time_left,
)
from vitrail.progress.expected import START, earlier, jobs_of, seconds_of, seconds_of_rules
from vitrail.progress.notes import FAILED, FINISHED, KILLED, RUNNING, STOPPED, WAITING, Job, Stand
from vitrail.progress.page import page, write_page
from vitrail.progress.state import HELD, MISSING, NOT_RUN, Watched
from vitrail.runs import Plan, expand
from vitrail.settings import run_id

NOW = 1_000_000.0
ROOT = Path(__file__).parents[1]
SLACK = 3  # of a busy machine
HOSTILE = "<b>[red]x[/red]</b> & \"'"


def bar(title: str, done: int, total: int, left: str = "00:30", more: str = "") -> str:
    """A line as tqdm writes it where there is no terminal."""
    share = 100 * done // total
    return f"{title}: {share:3}%|{'█' * 4:10}| {done}/{total} [00:10<{left}, 3.25step/s{more}]"


def step(number: int, state: str = WAITING, **about: Any) -> Step:
    """A step whose job is expected to take 100 s."""
    known = {key: about.pop(key) for key in ("started", "ended") if key in about}
    seen = about.pop("bar", None)
    job = {"rule": "train_q2_mlp", "title": "Train x", "log": "x.log", "target": "x.json"}
    job |= {"threads": 1, "expected": 100.0, **about}
    return Step(Job(number, **job), Stand(state, **known), seen)  # type: ignore[arg-type]


def steps(*some: Step) -> dict[int, Step]:
    return {one.job.number: one for one in some}


# --- the lines of tqdm


def test_a_bar_is_read_as_tqdm_writes_it(tmp_path: Path) -> None:
    """With the tqdm that is installed, into a file as in a step."""
    code = """
import sys, time
from tqdm import tqdm
bar = tqdm(range(10), desc="vit-p7-s0", unit="step", mininterval=0, file=sys.stderr)
for step in bar:
    time.sleep(0.02)
    bar.set_postfix(val_accuracy="0.9731")
    if step == 6:
        break
"""
    with (tmp_path / "log").open("w") as log:
        subprocess.run([sys.executable, "-c", code], stderr=log, check=True, timeout=60)
    found = Log(tmp_path / "log").bar()
    assert found is not None
    assert (found.title, found.done, found.total) == ("vit-p7-s0", 6, 10)
    assert found.accuracy == 0.9731 and found.left == 0.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("vitrail: something went wrong\n", None),
        ("train: vit-s0 resumed at step 3 of 9\n", None),
        (bar("a-s0", 5, 20), Bar("a-s0", 5, 20, 10.0, 30.0, None)),
        (bar("a-s0", 0, 20, "?"), Bar("a-s0", 0, 20, 10.0, None, None)),
        (
            bar("a-s0", 20, 20) + "\n" + bar("a-s1", 5, 20, "1:02:03", ", val_accuracy=0.5"),
            Bar("a-s1", 5, 20, 10.0, 3723.0, 0.5),
        ),
        (bar("a-s0", 1, 20) + "\r" + bar("a-s0", 9, 20), Bar("a-s0", 9, 20, 10.0, 30.0, None)),
        (bar("target 75", 9, 20), Bar("target 75", 9, 20, 10.0, 30.0, None)),
    ],
)
def test_the_last_bar_of_a_log(text: str, expected: Bar | None) -> None:
    assert last_bar(text) == expected


def test_a_log_is_read_again_only_when_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vitrail.progress import bars

    reads = []
    monkeypatch.setattr(bars, "end_of", lambda path: reads.append(path) or path.read_text())
    path = tmp_path / "x.log"
    log = Log(path)
    assert log.bar() is None
    path.write_text(bar("a", 1, 2))
    for _ in range(5):
        assert log.bar() is not None
    assert len(reads) == 1
    path.write_text(bar("a", 2, 2) + "\n")
    found = log.bar()
    assert found is not None and found.done == 2
    path.unlink()
    assert log.bar() is None


def test_of_a_long_log_the_end_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text((bar("a", 1, 9) + "\r") * 10_000 + bar("a", 8, 9))
    found = Log(path).bar()
    assert found is not None and found.done == 8


# --- arithmetic


def test_the_share_is_of_the_work_and_not_of_the_jobs() -> None:
    done = step(1, FINISHED, expected=300.0)
    clock = step(2, WAITING, expected=50.0, threads=2)
    assert share_done(steps(done, clock, step(3), step(4))) == 300 / 600
    half = step(3, RUNNING, runs=("a", "b"), parts=(30.0, 10.0), bar=Bar("a", 1, 2, 5, 5, None))
    assert half.share == 15 / 40
    second = step(3, RUNNING, runs=("a", "b"), parts=(30.0, 10.0), bar=Bar("b", 1, 2, 5, 5, None))
    assert second.share == 35 / 40
    assert share_done({}) == 0.0


def test_a_bar_of_several_in_a_job_says_nothing_of_its_share() -> None:
    one = Bar("target 75", 9, 10, 10, 1, None)
    assert step(1, RUNNING, rule="learn_thresholds", bar=one).share == 0.0
    assert step(1, RUNNING, rule="pretrain", bar=one).share == 0.9


def test_nothing_is_said_before_enough_was_measured() -> None:
    few = steps(step(1, FINISHED, started=0.0, ended=ENOUGH - 1), step(2))
    assert slowness(few) is None and time_left(few, 2, 50.0) is None
    enough = steps(step(1, FINISHED, started=0.0, ended=ENOUGH), step(2))
    assert slowness(enough) == ENOUGH / 100
    assert time_left(enough, 2, 50.0) == pytest.approx(ENOUGH)


def test_the_speed_is_that_of_finished_and_running_jobs_together() -> None:
    """Twice as slow as expected on one, as expected on the half of another."""
    known = steps(
        step(1, FINISHED, started=0.0, ended=200.0),
        step(2, RUNNING, started=0.0, runs=("a",), parts=(100.0,), bar=Bar("a", 1, 2, 9, 50, None)),
    )
    assert slowness(known) == pytest.approx((200 + 50) / (100 + 50))


def test_a_training_that_was_resumed_does_not_seem_fast() -> None:
    """It stands at 90 % after a second, and needs 10 s for the rest."""
    known = steps(
        step(
            1, RUNNING, started=99.0, runs=("a",), parts=(100.0,), bar=Bar("a", 9, 10, 1, 10, None)
        )
    )
    assert slowness(known) == pytest.approx(1.0)


def test_what_is_left_of_a_running_job_is_what_its_own_bar_says() -> None:
    two = step(1, RUNNING, started=0.0, runs=("a", "b"), parts=(60.0, 30.0),
               bar=Bar("a", 1, 4, 40, 120.0, None))  # fmt: skip
    assert two.left(None, 40.0) == pytest.approx(120 + 160 / 2)
    silent = step(2, RUNNING, started=10.0)
    assert silent.left(None, 40.0) is None
    assert silent.left(2.0, 40.0) == pytest.approx(200 - 30)
    assert silent.left(0.1, 40.0) == 0.0


def test_what_is_left_is_all_work_over_all_slots_or_the_longest_chain() -> None:
    measured = step(1, FINISHED, started=0.0, ended=100.0)  # as fast as expected
    eight = [step(number) for number in range(2, 10)]
    assert time_left(steps(measured, *eight), 2, 200.0) == pytest.approx(400)
    assert time_left(steps(measured, *eight), 4, 200.0) == pytest.approx(200)
    long = step(10, expected=350.0)
    last = step(11, expected=10.0, needs=(10, 1))
    assert time_left(steps(measured, *eight, long, last), 8, 200.0) == pytest.approx(360)
    clock = step(12, expected=100.0, threads=64)  # scaled down to the slots, alone
    assert time_left(steps(measured, clock), 4, 200.0) == pytest.approx(100)


def test_what_waits_for_a_failed_job_is_held_up_and_costs_no_time() -> None:
    known = steps(
        step(1, FAILED),
        step(2, needs=(1,)),
        step(3, needs=(2,)),
        step(4),
        step(5, FINISHED, started=0.0, ended=100.0, needs=(1,)),  # before it was made anew
    )
    assert held_up(known) == {2, 3}
    assert time_left(known, 1, 200.0) == pytest.approx(100)


def test_expected_seconds_grow_with_the_work(config: dict[str, Any]) -> None:
    plan = expand(config)
    base = plan.arms[plan.base].settings
    assert seconds_of({**base, "epochs": 2 * base["epochs"]}) > 1.8 * seconds_of(base)
    assert seconds_of({**base, "depth": 2 * base["depth"]}) > 1.2 * seconds_of(base)
    assert all(seconds_of(arm.settings) > 0 for arm in plan.arms.values())


# --- the notes


def jobs(plan: Plan) -> list[Job]:
    """A training of each arm, and the answer that waits for them."""
    found = []
    for number, arm in enumerate(plan.arms.values(), 1):
        runs = tuple(run_id(arm.arm_id, seed) for seed in arm.seeds)
        log = f"results/{plan.study}/logs/train/{arm.arm_id}.log"
        target = f"results/{plan.study}/runs/{runs[0]}/config.json"
        found.append(
            Job(number, "train_q2_mlp", f"Train {arm.arm_id}", log, target, 1, 60.0, runs,
                (20.0,) * len(runs))
        )  # fmt: skip
    needs = tuple(job.number for job in found)
    about = ("q2_mlp", "Answer q2_mlp", "q.log", "results/x/q2_mlp/table.csv", 1, 10.0)
    return [*found, Job(len(found) + 1, *about, needs=needs)]


@pytest.fixture
def plan(config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A base ViT and two arms under Q2, three seeds each, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    arms = {
        "one": {"label": HOSTILE, "settings": {"act": "relu"}},
        "two": {"label": "an arm\x1b[31m", "settings": {"mlp_ratio": 3}},
    }
    blocks = {"pair": experiment(arms=arms, reference="one")}
    return expand({**small(config, "q2_mlp", **blocks), "study": "x"})


class Run:
    """A run that is made by hand: its notes, logs and run folders."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.jobs = plan, jobs(plan)
        self.by_arm = {job.runs[0].rpartition("-s")[0]: job for job in self.jobs if job.runs}
        Path(".snakemake").mkdir()
        self.place = notes.place(plan.study)
        self.writer = notes.Writer(self.place, plan.study, 2, self.jobs)
        self.watched = Watched(plan, Path("results"), self.place)
        self.folder = Path("results") / plan.study

    def named(self, name: str) -> Job:
        arm = next(m.arm for e in self.plan.experiments for m in e.members if m.name == name)
        return self.by_arm[arm.arm_id]

    def note(self, kind: str, job: Job) -> None:
        self.writer.write(kind, job=job.number)

    def log(self, job: Job, text: str) -> None:
        Path(job.log).parent.mkdir(parents=True, exist_ok=True)
        Path(job.log).write_text(text)

    def summary(self, run: str, **content: Any) -> None:
        folder = self.folder / "runs" / run
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "summary.json").write_text(json.dumps(content))

    def arms(self) -> dict[str, tuple[str, int]]:
        state = self.watched.look(time.time())
        names = [m.name for e in self.plan.experiments for m in e.members]
        return {name: (arm.state, arm.done) for name, arm in zip(names, state.arms, strict=True)}


@pytest.fixture
def run(plan: Plan) -> Run:
    return Run(plan)


def test_a_run_from_its_start_to_its_end(run: Run) -> None:
    one, two = run.named("one"), run.named("two")
    state = run.watched.look(time.time())
    assert (state.share, state.left, state.jobs, state.jobs_done) == (0.0, None, 4, 0)
    assert state.working == () and state.ending == "" and state.noted
    assert run.arms() == {"one": (WAITING, 0), "two": (WAITING, 0)}

    run.note(RUNNING, one)
    (working,) = run.watched.look(time.time()).working
    assert working.steps is None and working.title == f"Q2 {HOSTILE}"
    run.log(one, bar(one.runs[1], 5, 10, "00:30", ", val_accuracy=0.9000"))
    run.summary(one.runs[0], status="finished", val_accuracy=0.8)
    state = run.watched.look(time.time())
    (working,) = state.working
    assert working.steps == (5, 10) and working.accuracy == 0.9
    assert working.doing == "run 2 of 3"
    assert working.left == pytest.approx(30 + 60)  # half of this run, and one like it
    assert state.share == pytest.approx(30 / 190)
    assert state.left == pytest.approx((60 * 3 * 2 + 90 + 30) / 2, rel=0.5)  # 3 times as slow
    assert run.arms() == {"one": (RUNNING, 1), "two": (WAITING, 0)}

    for each in one.runs:
        run.summary(each, status="finished", val_accuracy=0.8)
    run.note(FINISHED, one)
    run.note(RUNNING, two)
    run.note(FAILED, two)
    state = run.watched.look(time.time())
    assert state.failed == (("Q2 an arm\x1b[31m", two.log),)
    assert state.held == 1 and state.working == ()
    assert [arm.accuracy for arm in state.arms] == [pytest.approx(0.8), None]
    assert run.arms() == {"one": (FINISHED, 3), "two": (FAILED, 0)}
    run.note(RUNNING, two)  # tried once more
    assert run.watched.look(time.time()).failed == ()
    run.note(FAILED, two)
    run.writer.write("end", how=FAILED)
    state = run.watched.look(time.time() + 1000)
    assert state.ending == FAILED and state.left is None
    assert state.elapsed < 100


def test_an_arm_that_could_not_be_run_names_its_reason(run: Run) -> None:
    one = run.named("one")
    run.note(RUNNING, one)
    for each in one.runs:
        run.summary(each, status="not run", reason="no weights")
    run.note(FINISHED, one)
    assert run.watched.look(time.time()).not_run() == {"no weights": [HOSTILE]}
    assert run.arms()["one"] == (NOT_RUN, 0)


def test_runs_of_before_count_until_this_run_makes_them_anew(run: Run) -> None:
    """A summary is there, but the job that makes it anew has not begun."""
    one = run.named("one")
    for each in one.runs:
        run.summary(each, status="finished", val_accuracy=0.5)
    assert run.arms()["one"] == (WAITING, 0)
    notes.Writer(run.place, "x", 2, [job for job in run.jobs if job != one])
    assert run.arms()["one"] == (FINISHED, 3)


def test_a_study_without_notes_is_told_from_its_runs(run: Run) -> None:
    run.place.unlink()
    run.summary(run.named("two").runs[0], status="finished", val_accuracy=0.5)
    state = run.watched.look(time.time())
    assert not state.noted and state.jobs == 0
    assert run.arms() == {"one": (MISSING, 0), "two": (MISSING, 1)}
    assert "No run of Snakemake" in page(state)


def test_what_waits_for_a_failed_training_of_another_arm(run: Run) -> None:
    one, two = run.named("one"), run.named("two")
    held = replace(two, needs=(one.number,))
    writer = notes.Writer(run.place, "x", 2, [held if job == two else job for job in run.jobs])
    writer.write(FAILED, job=one.number)
    assert run.arms() == {"one": (FAILED, 0), "two": (HELD, 0)}


def test_a_killed_run_is_told_from_one_at_work(run: Run) -> None:
    one = run.named("one")
    run.note(RUNNING, one)
    run.log(one, bar(one.runs[0], 5, 10))
    assert run.watched.look(time.time()).ending == ""
    lines = run.place.read_text().splitlines()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    created = psutil.Process(ended.pid).create_time()
    ended.wait()
    told = json.loads(lines[0])
    told |= {"process": told["process"].replace(str(os.getpid()), str(ended.pid), 1)}
    lines[0] = json.dumps(told | {"created": created})
    run.place.write_text("\n".join(lines) + "\n")
    watched = Watched(run.plan, Path("results"), run.place)
    state = watched.look(time.time() + 5000)
    assert state.ending == KILLED and state.working == () and state.left is None
    assert state.elapsed < 100  # until it was last seen at work
    # In another container or on another machine nobody can tell from here.
    lines[0] = json.dumps(told | {"process": f"{ended.pid} pid:[1]"})
    run.place.write_text("\n".join(lines) + "\n")
    assert Watched(run.plan, Path("results"), run.place).look(time.time()).ending == ""


def test_notes_are_read_while_they_grow(run: Run) -> None:
    reader = notes.Reader(run.place)
    assert reader.look() is not None
    one = run.named("one")
    whole = json.dumps({"note": RUNNING, "job": one.number, "at": NOW}) + "\n"
    with run.place.open("a") as stream:
        stream.write(whole[:20])
        stream.flush()
        assert reader.look().stands[one.number].state == WAITING  # type: ignore[union-attr]
        stream.write(whole[20:] + 'torn\n{"note": "of a later version"}\n[]\n')
        stream.write('{"note": "running", "job": 77, "at": 0}\n')
        stream.flush()
    found = reader.look()
    assert found is not None and found.stands[one.number].state == RUNNING
    notes.Writer(run.place, "x", 1, run.jobs[:1])  # another run
    found = reader.look()
    assert found is not None and len(found.jobs) == 1 and found.slots == 1


JOB = {
    "number": 9, "rule": "r", "title": "t", "log": "l", "target": "o", "threads": 1,
    "expected": 9.0, "runs": ["a"], "parts": [6.0], "needs": [],
}  # fmt: skip


@pytest.mark.parametrize(
    "note",
    [
        *({"note": "job", "job": {**JOB, **change}} for change in (
            {"number": "9"}, {"threads": "x"}, {"threads": 1.5}, {"expected": None},
            {"expected": float("nan")}, {"expected": -1.0}, {"parts": ["x"]}, {"parts": []},
            {"runs": [3]}, {"needs": [{}]}, {"log": 3}, {"title": None},
        )),
        *({"note": RUNNING, "job": 1, "at": at} for at in ("z", None, float("inf"), 10**40)),
        *({"note": FINISHED, "job": job, "at": NOW} for job in ([], "1", None)),
        {"note": "submitted", "job": 77}, {"note": "submitted", "job": []},
        {"note": "end", "how": "of a later version", "at": NOW},
        {"note": "end", "how": [], "at": NOW}, {"note": "end", "how": FINISHED, "at": "z"},
        *({"note": "run", "study": "y", "slots": 1, "process": "", "created": 0, "at": 0} | change
          for change in ({"study": 3}, {"slots": "x"}, {"process": None}, {"created": "z"},
                         {"at": "z"})),
    ],
    ids=str,
)  # fmt: skip
def test_notes_with_values_that_no_run_writes_are_passed_over(
    run: Run, note: dict[str, Any]
) -> None:
    before = run.watched.look(NOW)
    with run.place.open("a") as stream:
        stream.write(json.dumps(note) + "\n")
    after = run.watched.look(NOW)
    assert after == before
    assert "of the work" in "".join(terminal.drawn(terminal.whole(after), 100, False))


@pytest.mark.parametrize("accuracy", ["x", [], {}])
def test_a_summary_whose_accuracy_is_no_number_counts_as_torn(run: Run, accuracy: Any) -> None:
    one = run.named("one")
    run.note(FINISHED, one)
    for each in one.runs:
        run.summary(each, status="finished", val_accuracy=accuracy)
    assert run.arms()["one"] == (MISSING, 0)
    for each in one.runs[:2]:
        run.summary(each, status="finished", val_accuracy=None)
    assert run.arms()["one"] == (MISSING, 2)


def test_the_log_of_an_earlier_attempt_is_not_taken_for_this_one(run: Run) -> None:
    one = run.named("one")
    run.log(one, bar(one.runs[2], 10, 10))
    os.utime(one.log, (NOW, NOW))
    run.note(RUNNING, one)
    (working,) = run.watched.look(time.time()).working
    assert working.steps is None


def test_clocks_are_expected_to_take_what_they_are_set_to() -> None:
    default = plan_study({}, ROOT)
    smoke = plan_study(load([ROOT / "config" / "smoke.yaml"]), ROOT)
    long, short = seconds_of_rules(default), seconds_of_rules(smoke)
    for rule in ("timing", "execution", "learn_thresholds", "reduce_tokens"):
        assert long[rule] > 2 * short[rule] > 0, rule


def test_what_snakemake_needs_is_noted_with_its_order(plan: Plan) -> None:
    """From objects like those of Snakemake."""

    class Rule:
        name = "train_q2_mlp"

    class Made:
        def __init__(self, output: list[str]) -> None:
            self.output, self.log, self.threads = output, ["a.log"], 1
            self.rule, self.message = Rule(), None

    arm = next(iter(plan.arms))
    first = Made([f"results/x/runs/{arm}-s{seed}/{name}" for seed in (0, 1) for name in "ab"])
    second, everything = Made(["results/x/runs.csv"]), Made([])

    class Dag:
        def __init__(self) -> None:
            self.dependencies = {first: {}, second: {first: set()}, everything: {second: set()}}

        def needrun_jobs(self) -> list[Made]:
            return [second, first, everything]

        def jobid(self, job: Made) -> int:
            return [everything, first, second].index(job)

    planned = replace(plan_study({}, ROOT), plan=plan)
    one, two = jobs_of(Dag(), planned)
    assert (one.number, one.runs, one.needs) == (1, (f"{arm}-s0", f"{arm}-s1"), ())
    assert one.expected == pytest.approx(START + sum(one.parts), abs=0.01)
    assert (two.number, two.runs, two.needs) == (2, (), (1,))
    Path("a.log").write_text("vitrail: 40.00 core-seconds\nvitrail: 2.50 core-seconds\n")
    assert earlier("a.log") == 42.5
    Path("b.log").write_text(
        "vitrail: 40.00 core-seconds\n"
        "vitrail: 1.00 of them to start; from 100.00 to 125.00 on 2 threads\n"
    )
    assert (earlier("b.log"), earlier("none.log"), earlier("")) == (25.0, 0.0, 0.0)
    again, other = jobs_of(Dag(), planned)
    assert (again.expected, other.expected) == (42.5, 42.5)
    assert sum(again.parts) == pytest.approx(42.5 * sum(one.parts) / one.expected, abs=0.01)


# --- what is said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "time left not yet known"),
        (0.0, "under a minute left"),
        (70.0, "about 1 min left"),
        (1500.0, "about 25 min left"),
        (7640.0, "about 2 h 05 min left"),
    ],
)
def test_time_left_is_said_as_roughly_as_it_is_known(seconds: float | None, said: str) -> None:
    assert words.left(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(4.9, "4 s"), (725.0, "12 min 05 s"), (7645.0, "2 h 07 min")]
)
def test_time_gone(seconds: float, said: str) -> None:
    assert words.gone(seconds) == said


def test_only_what_is_all_done_is_a_hundred_percent() -> None:
    assert [words.percent(share) for share in (0.0, 0.999, 1.0)] == ["0 %", "99 %", "100 %"]


class Page(HTMLParser):
    """The text, tags and links of a page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.text, self.tags, self.links = "", list[str](), list[str]()
        self.feed(source)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attributes if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_text_of_the_config_is_text(run: Run) -> None:
    one, two = run.named("one"), run.named("two")
    run.note(RUNNING, one)
    run.note(FAILED, two)
    run.log(one, bar(one.runs[0], 5, 10))
    for each in one.runs:
        run.summary(each, status="not run", reason=HOSTILE)
    folder = run.folder / "q1_patch_embedding"
    (folder / "figures").mkdir(parents=True)
    (folder / "figures" / "a<b>.svg").write_text("")
    (folder / "opening.json").write_text(json.dumps({"key": HOSTILE, "key_name": HOSTILE}))
    state = run.watched.look(time.time())
    read = Page(page(state))
    assert read.text.count(HOSTILE) >= 3
    assert "<b>[red]" not in page(state)
    assert "q1_patch_embedding/figures/a%3Cb%3E.svg" in read.links
    for shown in (terminal.whole(state), terminal.below(state, 40)):
        lines = terminal.drawn(shown, 400, colour=False)
        assert any(HOSTILE in line for line in lines)
        assert not any("\x1b" in line for line in lines)


def test_the_page_and_the_notes_are_no_part_of_the_results(run: Run) -> None:
    write_page(run.folder / "status.html", run.watched.look(time.time()))
    assert not any(hashes.kinds_of(run.folder).values())
    for file in (ROOT / "workflow" / "rules").glob("*.smk"):
        assert not re.search(r"status\.html|progress\.jsonl", file.read_text()), file


def test_the_page_needs_nothing_from_elsewhere(run: Run) -> None:
    read = Page(page(run.watched.look(time.time())))
    assert not any("//" in link for link in read.links)
    assert "img" not in read.tags and "link" not in read.tags


def test_the_page_reloads_itself_only_while_the_run_goes_on(run: Run) -> None:
    at_work = page(run.watched.look(time.time()))
    assert 'http-equiv="refresh"' in at_work and 'data-pause="5"' in at_work
    run.writer.write("end", how=STOPPED)
    ended = page(run.watched.look(time.time()))
    assert 'http-equiv="refresh"' not in ended and 'data-pause="0"' in ended
    assert "Stopped." in ended and "The same command goes on" in ended


def test_the_page_of_a_finished_run_leads_to_the_report(run: Run) -> None:
    for job in run.jobs:
        run.note(RUNNING, job)
        run.note(FINISHED, job)
    run.writer.write("end", how=FINISHED)
    assert "report/report.html" not in Page(page(run.watched.look(time.time()))).links
    (run.folder / "report").mkdir(parents=True)
    (run.folder / "report" / "report.html").write_text("")
    (run.folder / "q2_mlp").mkdir()
    (run.folder / "q2_mlp" / "opening.json").write_text('{"key": "+1.0", "key_name": "points"}')
    state = run.watched.look(time.time())
    read = Page(page(state))
    assert "report/report.html" in read.links and "report/report.html#sec-q2" in read.links
    assert "+1.0" in read.text and "Finished." in read.text
    assert [one.answered for one in state.questions] == [stem == "q2_mlp" for stem in STEMS]


def test_a_page_is_written_whole_or_not_at_all(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    path = run.folder / "status.html"
    write_page(path, run.watched.look(time.time()))
    before = path.read_text()
    monkeypatch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        write_page(path, run.watched.look(time.time()))
    assert path.read_text() == before
    assert sorted(one.name for one in path.parent.iterdir()) == ["status.html"]


def test_lines_below_a_terminal_keep_to_its_size(run: Run) -> None:
    for job in run.jobs:
        run.note(RUNNING, job)
    state = run.watched.look(time.time())
    for rows, columns in ((24, 80), (8, 40), (50, 200)):
        lines = terminal.drawn(terminal.below(state, rows), columns, colour=False)
        assert len(lines) <= max(2, rows // 3) + 1
        assert all(len(line) <= columns for line in lines)


@pytest.mark.parametrize(("rows", "columns"), [(24, 80), (40, 200)])
@pytest.mark.parametrize("count", [3, 64])
def test_a_terminal_of_its_own_shows_questions_below_many_jobs(
    run: Run, rows: int, columns: int, count: int
) -> None:
    run.note(RUNNING, run.named("one"))
    run.note(FAILED, run.named("two"))
    state = run.watched.look(time.time())
    failed = state.failed * min(count, 9)
    state = replace(state, working=state.working * count, failed=failed, queued=7)
    lines = terminal.drawn(terminal.whole(state, rows), columns, colour=False)
    assert len(lines) <= rows
    (more,) = [int(n) for line in lines for n in re.findall(r"and (\d+) more jobs", line)] or [0]
    shown = sum(line.startswith("  Q2 <b>") for line in lines)
    assert shown >= 1 and shown + more == count
    (question,) = [line for line in lines if line.startswith("  Q2 ") and " of 2 arms" in line]
    assert question.rstrip().endswith("▶✗")
    assert all(any(stem.split("_")[0].upper() in line for line in lines) for stem in STEMS)
    assert any("▶ running" in line and "✗ failed" in line for line in lines)


def test_many_arms_are_counted_by_their_state(run: Run) -> None:
    state = run.watched.look(time.time())
    arms = [replace(state.arms[0], state=name) for name in (HELD, MISSING, NOT_RUN, FAILED)] * 9
    for some, said in ((arms[:8], "!?–✗!?–✗"), (arms, "9✗ 9! 9– 9?")):
        shown = terminal.whole(replace(state, arms=tuple(some)), 23)
        lines = terminal.drawn(shown, 79, colour=False)
        assert [line for line in lines if line.rstrip().endswith(f"arms  {said}")]
        assert lines[-1].rstrip().endswith("? not made")


def test_once_every_arm_is_named_with_its_state(run: Run) -> None:
    run.note(RUNNING, run.named("one"))
    said = terminal.drawn(terminal.whole(run.watched.look(time.time())), 200, colour=False)
    lines = [line.strip() for line in said]
    assert f"▶ running: {HOSTILE}" in lines
    assert "· waiting: an arm [31m" in lines


def test_looking_at_a_large_study_is_cheap(config: dict[str, Any], tmp_path: Path) -> None:
    """The default study with 308 runs, all of them there: a look costs milliseconds."""
    plan = expand(config)
    for arm in plan.arms.values():
        for seed in arm.seeds:
            folder = tmp_path / plan.study / "runs" / run_id(arm.arm_id, seed)
            folder.mkdir(parents=True)
            (folder / "summary.json").write_text('{"status": "finished", "val_accuracy": 0.9}')
    made = jobs(plan)
    writer = notes.Writer(tmp_path / "notes", plan.study, 2, made)
    for job in made:
        writer.write(FINISHED, job=job.number)
    watched = Watched(plan, tmp_path, tmp_path / "notes")
    watched.look(time.time())

    def milliseconds(what: Callable[[], object]) -> float:
        begun = time.thread_time()
        for _ in range(10):
            what()
        return 100 * (time.thread_time() - begun)

    state = watched.look(time.time())
    look = milliseconds(lambda: watched.look(time.time()))
    lines = milliseconds(lambda: terminal.drawn(terminal.below(state, 30), 100, colour=True))
    made_page = milliseconds(lambda: page(state))
    print(f"\n  a look {look:.1f} ms, the lines {lines:.1f} ms, the page {made_page:.1f} ms")
    # Every 2 s: less than 1 % of a core, on a machine that does other things as well.
    assert look + lines + made_page < 20 * SLACK
