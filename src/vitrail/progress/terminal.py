"""Progress for a terminal, drawn by rich: a few lines below Snakemake's own, or all of it.

Text of the config goes in as `Text`, which knows no markup.
"""

from __future__ import annotations

from collections import Counter

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from vitrail.opening import ASKED
from vitrail.progress import words
from vitrail.progress.notes import FAILED, FINISHED, KILLED, RUNNING, STOPPED, WAITING
from vitrail.progress.state import HELD, MISSING, NOT_RUN, ArmState, State, Working
from vitrail.progress.words import one_line

MOST_JOBS, MOST_FAILED = 6, 3  # lines of each below Snakemake's output
MOST_SIGNS = 20  # of the arms of a question, in a line
BAR = 24  # columns
ENDINGS = {
    FINISHED: ("finished", "green"),
    FAILED: ("ended with failed jobs", "red"),
    STOPPED: ("stopped; the same command goes on", "yellow"),
    KILLED: ("killed; the same command goes on", "yellow"),
}
# Of an arm.
SIGNS = {
    FINISHED: ("✓", "green"),
    RUNNING: ("▶", "cyan"),
    WAITING: ("·", "dim"),
    FAILED: ("✗", "red"),
    HELD: ("!", "yellow"),
    NOT_RUN: ("–", "yellow"),
    MISSING: ("?", "dim"),
}


def headline(state: State) -> Text:
    """The study, the share of the work, times, and what is answered, in one line."""
    text = Text(f"{words.percent(state.share)} of the work", style="bold")
    text.append(f"  {words.gone(state.elapsed)}", style="none")
    if state.ending:
        said, colour = ENDINGS[state.ending]
        text.append(f", {said}", style=f"not bold {colour}")
    else:
        text.append(f", {words.left(state.left)}", style="none")
    answered = sum(one.answered for one in state.questions)
    text.append(f"  {answered} of {len(state.questions)} answered", style="not bold dim")
    if state.failed:
        text.append(f"  {len(state.failed)} failed", style="red")
    if state.queued:
        text.append(f"  {state.queued} in the queue", style="not bold dim")
    return text


def below(state: State, rows: int) -> RenderableType:
    """What stands below Snakemake's output.

    Args:
        state: of the study.
        rows: of the terminal; a third of them at most is used.
    """
    room = max(1, min(MOST_JOBS, rows // 3 - 1))
    lines: list[RenderableType] = [_with_bar(state)]
    shown = state.working[:room]
    if shown:
        lines.append(_jobs(shown))
    if len(state.working) > room:
        lines.append(Text(f"  and {len(state.working) - room} more jobs", style="dim"))
    for title, log in state.failed[:MOST_FAILED]:
        lines.append(_failed(title, log))
    return Group(*lines)


def whole(state: State, rows: int | None = None) -> RenderableType:
    """Everything, for a terminal of its own.

    Args:
        state: of the study.
        rows: lines that there is room for; jobs and failures are then counted where they are too
            many, and arms are signs. Without it all of them are named.
    """
    parts: list[RenderableType] = [Text(f"Study {one_line(state.study)}", style="bold")]
    if state.noted:
        parts.append(_with_bar(state))
    else:
        parts.append(Text("No run of Snakemake has left notes of its progress here."))
    end: list[RenderableType] = []
    if state.queued:
        end.append(Text(f"waiting  {words.counted(state.queued, 'job')} in the cluster's queue"))
    if state.held:
        held = words.counted(state.held, "job")
        end.append(Text(f"held up  {held} that wait for what failed", style="yellow"))
    for reason, labels in state.not_run().items():
        named = ", ".join(map(one_line, dict.fromkeys(labels)))
        said = Text(f"not run  {named}: {one_line(reason)}", style="yellow")
        end.append(said if rows is None else _in_a_line(said))
    failed = state.failed if rows is None else state.failed[:MOST_FAILED]
    end = [*(_failed(title, log) for title, log in failed), *end]
    if more := len(state.failed) - len(failed):
        end.insert(len(failed), Text(f"  and {more} more failed", style="red"))
    if rows is None:
        arms = [_questions(state, named=True)]
        room = len(state.working)
    else:
        arms = [_questions(state), _in_a_line(_legend())]
        room = max(1, rows - len(parts) - len(end) - len(state.questions) - 1)
        if len(state.working) > room:
            room = max(1, room - 1)  # a line says how many are left out
    if state.working:
        parts.append(_jobs(state.working[:room]))
    if more := len(state.working) - min(room, len(state.working)):
        parts.append(Text(f"  and {more} more jobs", style="dim"))
    return Group(*parts, *end, *arms)


def _in_a_line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _legend() -> Text:
    text = Text("arms", style="dim")
    for name, (sign, colour) in SIGNS.items():
        text.append(f" {sign}", style=colour).append(f" {name}")
    return text


def _with_bar(state: State) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    bar = ProgressBar(total=1.0, completed=state.share, width=BAR, finished_style="green")
    table.add_row(bar, headline(state))
    return table


def _jobs(working: tuple[Working, ...]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=None, max_width=44)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(no_wrap=True, style="cyan")
    table.add_column(no_wrap=True, overflow="ellipsis", style="dim")
    for job in working:
        steps = f"{job.steps[0]:,}/{job.steps[1]:,}" if job.steps else ""
        value = words.accuracy(job.accuracy)
        rest = [words.gone(job.spent)]
        if job.left is not None:
            rest.append(words.left(job.left))
        if job.doing:
            rest.append(one_line(job.doing))
        title = Text(f"  {one_line(job.title)}")
        table.add_row(title, steps, f"val {value}" if value else "", Text(", ".join(rest)))
    return table


def _failed(title: str, log: str) -> Text:
    return Text(f"  failed  {one_line(title)}: {one_line(log)}", style="red", overflow="ellipsis")


def _questions(state: State, named: bool = False) -> RenderableType:
    """Each question: its arms by state, and its key number once it is answered.

    Args:
        state: of the study.
        named: whether the arms are named below their question, and not shown as signs.
    """
    lines: list[RenderableType] = []
    for one in state.questions:
        arms = [arm for arm in state.arms if arm.question == one.stem]
        number = one.stem.partition("_")[0].upper()
        line = Text("✓ " if one.answered else "  ", style="green")
        line.append(f"{number} {ASKED[one.stem].title}", style="default")
        if arms:
            done = sum(arm.state == FINISHED for arm in arms)
            line.append(f"  {done} of {words.counted(len(arms), 'arm')}", style="default")
        if one.answered:
            line.append(f"  {one_line(one.key)}", style="bold default")
            line.append(f" {one_line(one.key_name)}", style="default")
        if not named:
            line.append("  ").append(_signs(arms))
        lines.append(line if named else _in_a_line(line))
        for name, (sign, colour) in SIGNS.items():
            if named and (labels := [one_line(arm.label) for arm in arms if arm.state == name]):
                lines.append(Text(f"    {sign} {name}: {', '.join(labels)}", style=colour))
    return Group(*lines)


def _signs(arms: list[ArmState]) -> Text:
    """A sign for each arm in its order; how many of each sign where there are many."""
    text = Text()
    if len(arms) <= MOST_SIGNS:
        for arm in arms:
            sign, colour = SIGNS[arm.state]
            text.append(sign, style=colour)
        return text
    counts = Counter(arm.state for arm in arms)
    for name, (sign, colour) in SIGNS.items():
        if counts[name]:
            text.append(f"{counts[name]}{sign} ", style=colour)
    return text


def drawn(what: RenderableType, width: int, colour: bool) -> list[str]:
    """A renderable as lines for a terminal of this width."""
    console = Console(
        width=max(20, width), force_terminal=True, legacy_windows=False,
        color_system="standard" if colour else None, highlight=False,
    )  # fmt: skip
    with console.capture() as held:
        console.print(what, end="")
    return held.get().rstrip("\n").split("\n")
