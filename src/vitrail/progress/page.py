"""The status page of a study: one file without anything from elsewhere, which reloads itself."""

from __future__ import annotations

import time
from html import escape
from pathlib import Path
from string import Template
from urllib.parse import quote

from vitrail.files import write_text
from vitrail.opening import ASKED
from vitrail.progress import words
from vitrail.progress.notes import FAILED, FINISHED, KILLED, RUNNING, STOPPED
from vitrail.progress.state import NOT_RUN, Answered, ArmState, State, Working

PAUSE = 5  # seconds between two reloads while the run goes on
TEMPLATE = Path(__file__).with_name("page.html")
GOES_ON = "The same command goes on: what is finished is kept."
SAID = {
    "": "At work.",
    FINISHED: "Finished.",
    FAILED: "Ended with jobs that failed.",
    STOPPED: "Stopped.",
    KILLED: "Killed.",
}


def write_page(path: Path, state: State) -> None:
    """Write the page, whole or not at all.

    Raises:
        OSError: the disk refuses.
    """
    write_text(path, page(state))


def page(state: State) -> str:
    """The HTML of the page. Every text of the config, of a log or of a result is escaped."""
    going_on = state.noted and not state.ending
    share = f"{words.percent(state.share)} · " if going_on else ""
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(f"{share}{state.study}: progress"),
        refresh=f'<meta http-equiv="refresh" content="{PAUSE}">' if going_on else "",
        written=f"{state.now:.0f}",
        pause=PAUSE if going_on else 0,
        body="\n".join(filter(None, [_head(state), _jobs(state), _troubles(state), _all(state)])),
    )


def _head(state: State) -> str:
    panes = f'<div class="panes" aria-hidden="true">{"<i></i>" * 6}</div>'
    heading = f"{panes}\n<h1>Study {escape(state.study)}</h1>"
    if not state.noted:
        return f"{heading}\n<p>No run of Snakemake has left notes of its progress here.</p>"
    kind = state.ending or RUNNING
    lines = [heading, f'<p class="says {kind}"><b>{SAID[state.ending]}</b>']
    if state.ending in (STOPPED, KILLED, FAILED):
        lines.append(f'<span class="soft">{GOES_ON}</span>')
    lines.append("</p>")
    lines.append(_bar(state.share, "work of this run that is done"))
    answered = sum(one.answered for one in state.questions)
    facts = [
        f"<b>{words.percent(state.share)}</b> of the work of this run",
        f"<b>{words.gone(state.elapsed)}</b> so far" if not state.ending
        else f"<b>{words.gone(state.elapsed)}</b>",
        *([] if state.ending else [f"<b>{words.left(state.left)}</b>"]),
        f"<b>{state.jobs_done:,}</b> of {words.counted(state.jobs, 'job')} done",
        *([f"<b>{state.queued:,}</b> in the cluster's queue"] if state.queued else []),
        f"<b>{answered}</b> of {len(state.questions)} questions answered",
    ]  # fmt: skip
    lines.append(f'<p class="facts">{"".join(f"<span>{fact}</span>" for fact in facts)}</p>')
    when = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(state.now))
    lines.append(f'<p class="facts"><span>Written {escape(when)}</span>{_report(state)}</p>')
    lines.append(
        '<p class="stale" id="stale" hidden>This page has not been updated since then: the run '
        f"was killed, or its machine sleeps. {GOES_ON}</p>"
    )
    return "\n".join(lines)


def _report(state: State) -> str:
    if not state.report:
        return ""
    links = ("report/report.html", "report/report.pdf")
    named = " and ".join(f'<a href="{link}">{link.rpartition("/")[2]}</a>' for link in links)
    return f"<span>The report: {named}</span>"


def _bar(share: float, what: str, small: bool = False) -> str:
    width = f"{100 * min(1.0, max(0.0, share)):.1f}"
    return (
        f'<div class="{"small " if small else ""}bar" role="progressbar" aria-label="{what}" '
        f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="{width}">'
        f'<i style="width:{width}%"></i></div>'
    )


def _jobs(state: State) -> str:
    if not state.working:
        return ""
    items = "\n".join(map(_job, state.working))
    return f'<h2>Running now</h2>\n<ul class="plain jobs">\n{items}\n</ul>'


def _job(job: Working) -> str:
    facts = []
    if job.doing:
        facts.append(escape(job.doing))
    if job.steps:
        facts.append(f"step {job.steps[0]:,} of {job.steps[1]:,}")
    if job.accuracy is not None:
        facts.append(f"validation accuracy {words.accuracy(job.accuracy)}")
    facts.append(f"{words.gone(job.spent)} so far")
    if job.left is not None:
        facts.append(words.left(job.left))
    bar = _bar(job.steps[0] / max(1, job.steps[1]), "steps done", True) if job.steps else ""
    row = f"<span>{escape(job.title)}</span><span>{', '.join(facts)}</span>"
    return f'<li><div class="row">{row}</div>{bar}</li>'


def _troubles(state: State) -> str:
    lines = []
    for title, log in state.failed:
        lines.append(f'<li class="failed"><b>{escape(title)}</b> failed: {_log(state, log)}</li>')
    if state.held:
        held = (
            f"{words.counted(state.held, 'job')} cannot be started, because they need what failed"
        )
        lines.append(f'<li class="heldup">{held}</li>')
    for reason, labels in state.not_run().items():
        named = escape(", ".join(dict.fromkeys(labels)))
        lines.append(f'<li class="notrun"><b>{named}</b> not run: {escape(reason)}</li>')
    if not lines:
        return ""
    return f'<h2>What is missing</h2>\n<ul class="plain list">\n{"".join(lines)}\n</ul>'


def _log(state: State, log: str) -> str:
    """The log's path, and a link where it lies below the page."""
    below = log.partition(f"/{state.study}/")[2]
    return f'<a href="{quote(below)}">{escape(log)}</a>' if below else escape(log)


def _all(state: State) -> str:
    questions = "\n".join(_question(state, one) for one in state.questions)
    return f"<h2>Questions</h2>\n{questions}"


def _question(state: State, one: Answered) -> str:
    arms = [arm for arm in state.arms if arm.question == one.stem]
    number = one.stem.partition("_")[0].upper()
    title = f"{number}. {escape(ASKED[one.stem].title)}"
    said = '<span class="finished">✓ answered</span>' if one.answered else "<span></span>"
    lines = [f'<div class="q"><div class="row"><span>{title}</span>{said}</div>']
    if one.key:
        lines.append(f"<p><b>{escape(one.key)}</b> {escape(one.key_name)}</p>")
    if links := _links(state, one):
        lines.append(f'<p class="soft">{links}</p>')
    if arms:
        rows = "\n".join(map(_arm, arms))
        head = '<tr><th>Arm</th><th class="wide">Experiment</th><th class="n">Runs</th>'
        head += '<th class="n">Validation</th><th>State</th></tr>'
        lines.append(
            f'<details id="{one.stem}"><summary>{_counts(arms)}</summary>\n'
            f"<table>{head}\n{rows}\n</table></details>"
        )
    return "\n".join([*lines, "</div>"])


def _counts(arms: list[ArmState]) -> str:
    """How many arms are finished, and how many are in a state to look at."""
    done = sum(arm.state == FINISHED for arm in arms)
    said = [f"{done} of {words.counted(len(arms), 'arm')} finished"]
    for name in (RUNNING, FAILED, NOT_RUN):
        if some := sum(arm.state == name for arm in arms):
            said.append(f'<span class="{name.replace(" ", "")}">{some} {name}</span>')
    return ", ".join(said)


def _links(state: State, one: Answered) -> str:
    links = []
    if state.report and one.answered:
        section = f"report/report.html#sec-{one.stem.partition('_')[0]}"
        links.append(f'<a href="{section}">chapter</a>')
    for name in one.figures:
        shown = escape(name.removesuffix(".svg").replace("_", " "))
        links.append(f'<a href="{one.stem}/figures/{quote(name)}">{shown}</a>')
    return ", ".join(links)


def _arm(arm: ArmState) -> str:
    kind = arm.state.replace(" ", "")
    said = escape(arm.state)
    if arm.state == NOT_RUN:
        said = f'<span title="{escape(arm.reason)}">{said}</span>'
    return (
        f'<tr><td>{escape(arm.label)}</td><td class="wide soft">{escape(arm.experiment)}</td>'
        f'<td class="n">{arm.done}/{arm.seeds}</td>'
        f'<td class="n">{words.accuracy(arm.accuracy)}</td><td class="{kind}">{said}</td></tr>'
    )
