"""The order of a study's jobs, and what it makes of the cores."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from scipy.stats import spearmanr

from recorded import durations, recorded
from vitrail import complexity_plan, jobs, schedule
from vitrail.config import STEMS, Config, load
from vitrail.cost_report import filled
from vitrail.errors import VitrailError
from vitrail.runs import expand
from vitrail.schedule import Job

ROOT = Path(__file__).parents[1]
HEAD = "output_file\tdate\trule\tlog-file(s)\tinput-file(s)\tshellcmd\tstatus\tplan"


def made(*listed: Job) -> dict[str, Job]:
    return {job.name: job for job in listed}


DIAMOND = made(
    Job("data", "data", 1.0, priority=9),
    Job("short", "train", 2.0, needs=frozenset({"data"})),
    Job("long", "train", 10.0, priority=5, needs=frozenset({"data"})),
    Job("clock", "clock", 3.0, threads=2, priority=1, needs=frozenset({"data"})),
    Job("end", "end", 1.0, needs=frozenset({"short", "long", "clock"})),
)


def test_the_critical_path_is_the_longest_chain() -> None:
    assert [job.name for job in schedule.critical_path(DIAMOND)] == ["data", "long", "end"]
    # 1 + 2 + 10 + 3 on two cores + 1 are 20 core-seconds.
    assert schedule.least_seconds(DIAMOND, 2) == 12
    assert schedule.least_seconds(DIAMOND, 1) == pytest.approx(20)
    assert schedule.critical_path({}) == []


def test_a_schedule_is_by_priority_and_fills_what_is_free() -> None:
    seconds, order = schedule.simulated(DIAMOND, 2)
    # The clock ranks above the short one, but one of its two cores is taken.
    assert [job.name for job in order] == ["data", "long", "short", "clock", "end"]
    assert seconds == 1 + 10 + 3 + 1
    assert schedule.simulated(DIAMOND, 1)[0] == 1 + 10 + 3 + 2 + 1
    lazy = made(*(Job(str(n), "r", 1.0, priority=n) for n in range(3)), Job("long", "r", 3.0))
    assert schedule.simulated(lazy, 2)[0] == 4
    assert schedule.simulated(lazy, 2, schedule.longest_way(lazy))[0] == 3


def test_jobs_in_a_circle_are_named() -> None:
    circle = made(Job("a", "r", 1, needs=frozenset("b")), Job("b", "r", 1, needs=frozenset("a")))
    with pytest.raises(VitrailError, match="jobs wait for each other: a, b"):
        schedule.critical_path(circle)


def test_the_report_names_the_path_and_the_shares() -> None:
    said = filled(DIAMOND, 2, 15.0)
    assert "by the clock:     15 s (+50%)" in said
    assert "critical path:                      12 s (120% of that)" in said
    assert "  data 1 > train 10 > end 1" in said
    assert "made in several runs" in filled(DIAMOND, 2, float("nan"))
    for nothing in ({}, made(Job("data", "data", 0.0))):
        with pytest.raises(VitrailError, match="Snakemake has no note of its jobs here"):
            filled(nothing, 2, 15.0)


def test_a_summary_of_snakemake_is_read_with_the_logs(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(
        "vitrail: 9.00 core-seconds\n"
        "vitrail: 1.00 of them to start; from 5.00 to 10.50 on 2 threads\n"
    )
    (tmp_path / "b.log").write_text("nothing\n")
    rows = [
        ("a.csv", "-", "first", "a.log", "src.py", "x", "ok", "no update"),
        ("a.json", "-", "first", "a.log", "src.py", "x", "ok", "no update"),
        ("b.csv", "-", "train_x", "b.log", "a.csv,a.json,src.py", 'say "x', "ok", "no update"),
    ]
    text = "\n".join([HEAD, *map("\t".join, rows)]) + "\n"
    found = schedule.read_summary(text, tmp_path.joinpath, lambda rule: {"train_x": 7}.get(rule, 0))
    assert found["a.log"] == Job("a.log", "first", 5.5, 2)
    assert found["b.log"] == Job("b.log", "train_x", 0.0, 1, 7, frozenset({"a.log"}))


def test_logs_of_finished_jobs_that_are_gone_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("")
    rows = [
        ("a.csv", "-", "first", "a.log", "src.py", "x", "ok", "no update"),
        ("b.csv", "-", "second", "b.log", "a.csv", "x", "ok", "no update"),
        ("b.json", "-", "second", "b.log", "a.csv", "x", "rule version changed", "no update"),
        ("c.csv", "-", "third", "c.log", "a.csv", "x", "missing", "update pending"),
        ("d.csv", "-", "-", "-", "a.csv", "x", "ok", "no update"),
    ]
    text = "\n".join([HEAD, *map("\t".join, rows)]) + "\n"
    assert schedule.absent_logs(text, tmp_path.joinpath) == ["b.log"]


def default_study(config: Config, cores: int) -> dict[str, Job]:
    """The jobs of a study, with trainings as long as they were measured to be."""
    plan, took = expand(config), durations(expand(config))
    rules = [*jobs.training_rules(plan), *jobs.training_together(plan)]
    together = {name for name, *_ in jobs.training_together(plan)}
    works: dict[str, tuple[float, int, list[str]]] = {}
    for name, priority, _, arms in rules:
        for job in [arms] if name in together else [[arm] for arm in arms]:
            seconds = sum(took[arm] for arm in job)
            works[name if name in together else job[0]] = (seconds, priority, job)
    job_of = {arm: name for name, (_, _, arms) in works.items() for arm in arms}
    ranks = jobs.priorities(plan)
    study = [
        Job("timing", "timing", 150, cores, ranks["timing"]),
        Job("mnist", "mnist", 2, 1, ranks["mnist"]),
    ]
    for start in plan.pretrainings:
        study.append(Job(start, "pretrain", 40, 1, ranks["pretrain"], frozenset({"mnist"})))
    for name, (seconds, priority, arms) in works.items():
        settings = [plan.arms[arm].settings for arm in arms]
        needs = {"mnist", *(one["start"] for one in settings if one.get("start"))}
        needs |= {job_of[one["teacher"]] for one in settings if one.get("teacher")} - {name}
        study.append(Job(name, "train", 4 + seconds, 1, priority, frozenset(needs)))
    subject = job_of[complexity_plan.subject(config, plan).arm_id]
    study.append(Job("execution", "execution", 120, cores, 0, frozenset({subject})))
    for stem in STEMS:
        needs = {job_of[arm] for arm in (*plan.arms_of(stem), plan.base)}
        needs |= {"timing", "execution"} if stem == "q7_complexity" else set()
        study.append(Job(stem, stem, 12, 1, ranks[stem], frozenset(needs)))
        study.append(Job(f"track_{stem}", "track", 8, 1, ranks["track"], frozenset({stem})))
    ends = frozenset(f"track_{stem}" for stem in STEMS)
    study.append(Job("report", "report", 14, 1, ranks.get("report", 0), ends))
    return made(*study)


def planned(cores: int) -> dict[str, float]:
    """Of the default study on so many cores: its critical path, and what two orders take.

    Each in parts of all work shared out over the cores.
    """
    study = default_study(load([ROOT / "config" / "default.yaml"]), cores)
    shared = sum(job.work for job in study.values()) / cores
    return {
        "critical path": sum(job.seconds for job in schedule.critical_path(study)) / shared,
        "in the study's order": schedule.simulated(study, cores)[0] / shared,
        "the longest way first": schedule.simulated(study, cores, schedule.longest_way(study))[0]
        / shared,
    }


def test_the_default_study_fills_two_cores() -> None:
    found = planned(2)
    assert max(found.values()) <= 1.1, found
    assert found["in the study's order"] >= 1


def test_the_longest_trainings_go_first_and_then_question_by_question(config: Config) -> None:
    plan = expand(config)
    study = default_study(config, 2)
    _, order = schedule.simulated(study, 2)
    assert order[0].name == "timing"
    place = {job.name: at for at, job in enumerate(order)}
    trainings = [job for job in order if job.rule == "train"]
    first = [job for job in trainings if job.priority == jobs.LONGEST]
    rest = [job for job in trainings if job.priority != jobs.LONGEST]
    assert first and rest
    # None that was measured to take very long comes later.
    usual = sum(job.seconds for job in trainings) / len(trainings)
    assert max(job.seconds for job in rest if job.name in plan.arms) < 4 * usual
    # A pretraining or a teacher may hold one of them up, and others then use the core.
    free = [job for job in first if job.needs == {"mnist"}]
    assert max(place[job.name] for job in free) < min(place[job.name] for job in rest)
    ranks = [job.priority for job in rest if job.needs == {"mnist"}]
    assert ranks == sorted(ranks, reverse=True)
    # So the early questions are answered long before the end.
    assert place["q1_patch_embedding"] < place["q8_transfer"]


def test_estimates_rank_the_trainings_about_as_they_were_measured(config: Config) -> None:
    plan = expand(config)
    took = recorded(plan)
    assert len(took) >= 0.9 * len(plan.arms), "run tests/training_seconds.py again"
    work = [jobs.training_work(plan.arms[arm].settings) * len(plan.arms[arm].seeds) for arm in took]
    # Measured: 0.71; of the images alone 0.16.
    assert spearmanr(list(took.values()), work).statistic >= 0.6
    longest = sorted(took, key=lambda arm: took[arm])[-4:]
    first = {
        arm
        for _, priority, _, arms in jobs.training_rules(plan)
        for arm in arms
        if priority == jobs.LONGEST
    }
    assert set(longest) <= first


def test_every_priority_is_that_of_a_rule(config: Config, root: Path) -> None:
    texts = [path.read_text() for path in (root / "workflow" / "rules").glob("*.smk")]
    rules = {name for text in texts for name in re.findall(r"^rule (\w+):", text, re.MULTILINE)}
    assert set(jobs.PRIORITIES) <= rules | set(STEMS)
    # None is written down anywhere else.
    for text in texts:
        for value in re.findall(r"^ +priority: (.+)$", text, re.MULTILINE):
            assert value.startswith("study_jobs.PRIORITIES[") or value == "priority"


def test_a_pattern_of_arms_matches_them_alone(config: Config) -> None:
    arms = list(expand(config).arms)
    pattern = re.compile(jobs.pattern_of(arms))
    assert all(pattern.fullmatch(arm) for arm in arms)
    slugs, codes = zip(*(arm.rsplit("-", 1) for arm in arms), strict=True)
    known = set(arms)
    others = {f"{slug}-{code}" for slug in set(slugs) for code in codes} - known
    others |= {f"{arm}-s0" for arm in arms} | {arm[:-1] for arm in arms} | {"", "x"}
    assert not any(pattern.fullmatch(other) for other in others)
    assert len(pattern.pattern) < len("|".join(map(re.escape, arms)))
