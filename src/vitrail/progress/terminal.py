"""Progress for a terminal, drawn by rich: a few lines below Snakemake's own, or all of it.

Text of the config goes in as `Text`, which knows no markup.
"""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from vitrail.opening import ASKED
from vitrail.progress import words
from vitrail.progress.notes import FAILED, FINISHED, KILLED, RUNNING, STOPPED
from vitrail.progress.state import NOT_RUN, State, Working
from vitrail.progress.words import one_line

MOST_JOBS, MOST_FAILED = 6, 3  # lines of each below Snakemake's output
BAR = 24  # columns
ENDINGS = {
    FINISHED: ("finished", "green"),
    FAILED: ("ended with failed jobs", "red"),
    STOPPED: ("stopped; the same command goes on", "yellow"),
    KILLED: ("killed; the same command goes on", "yellow"),
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
    if state.queued:
        text.append(f"  {state.queued} in the queue", style="not bold dim")
    if state.failed:
        text.append(f"  {len(state.failed)} failed", style="red")
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


def whole(state: State) -> RenderableType:
    """Everything, for a terminal of its own."""
    parts: list[RenderableType] = [Text(f"Study {one_line(state.study)}", style="bold")]
    if state.noted:
        parts += [_with_bar(state), Text()]
    else:
        parts += [Text("No run of Snakemake has left notes of its progress here.")]
    if state.working:
        parts += [_jobs(state.working), Text()]
    for title, log in state.failed:
        parts.append(_failed(title, log))
    if state.queued:
        parts.append(Text(f"waiting  {words.counted(state.queued, 'job')} in the cluster's queue"))
    if state.held:
        held = words.counted(state.held, "job")
        parts.append(Text(f"held up  {held} that wait for what failed", style="yellow"))
    for reason, labels in state.not_run().items():
        named = ", ".join(map(one_line, dict.fromkeys(labels)))
        parts.append(Text(f"not run  {named}: {one_line(reason)}", style="yellow"))
    parts += [Text(), _questions(state)]
    return Group(*parts)


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


def _questions(state: State) -> Table:
    """Each question: its arms by state, and its key number once it is answered."""
    table = Table.grid(padding=(0, 2))
    for _ in range(3):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in state.questions:
        arms = [arm for arm in state.arms if arm.question == one.stem]
        done = sum(arm.state == FINISHED for arm in arms)
        marks = Text(f"{done} of {words.counted(len(arms), 'arm')}" if arms else "")
        for name, colour in ((RUNNING, "cyan"), (FAILED, "red"), (NOT_RUN, "yellow")):
            if some := sum(arm.state == name for arm in arms):
                marks.append(f", {some} {name}", style=colour)
        key = Text()
        if one.answered:
            key.append(one_line(one.key), style="bold").append(f" {one_line(one.key_name)}")
        number = one.stem.partition("_")[0].upper()
        table.add_row(
            Text("✓" if one.answered else " ", style="green"),
            Text(f"{number} {ASKED[one.stem].title}"), marks, key,
        )  # fmt: skip
    return table


def drawn(what: RenderableType, width: int, colour: bool) -> list[str]:
    """A renderable as lines for a terminal of this width."""
    console = Console(
        width=max(20, width), force_terminal=True, legacy_windows=False,
        color_system="standard" if colour else None, highlight=False,
    )  # fmt: skip
    with console.capture() as held:
        console.print(what, end="")
    return held.get().rstrip("\n").split("\n")
