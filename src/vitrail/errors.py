"""What goes wrong in a way the user can mend: one sentence, no traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable

from vitrail import cost, machine


class VitrailError(Exception):
    """A problem told in one sentence: what is wrong and what to do about it."""


def check_count(argument: str, number: int, most: int | None = None) -> None:
    """Make sure that a count of the command line is 1 or more, and at most `most`.

    Raises:
        VitrailError: it is not; names the argument.
    """
    if number < 1:
        raise VitrailError(f"{argument} is {number} and has to be at least 1")
    if most is not None and number > most:
        raise VitrailError(f"{argument} is {number} and has to be at most {most}")


def run_command(main: Callable[[], None]) -> None:
    """Run a step's ``main`` and turn what the user can mend into one sentence.

    A step of the workflow ends its log with what it cost, and ends at once when the Snakemake
    that started it does.

    Exit codes: 0 when the step is done, 1 after a `VitrailError` or a problem of
    the disk or the memory, 130 after Ctrl-C. Anything else is a bug and keeps its traceback.
    """
    try:
        _belong_to_a_run()
        cost.begin()
        main()
        cost.tell()
        cost.end_soon()
    except VitrailError as error:
        sys.exit(f"vitrail: {error}")
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        sys.exit(
            f"vitrail: the system refused to read or write{where}: {error.strerror or error}. "
            "Free the space or the permission it names and run the same command again; "
            "finished runs are kept."
        )
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if said := machine.fault(error):  # in an error of a library's own
            sys.exit(f"vitrail: {said}")
        raise


def _belong_to_a_run() -> None:
    """Nothing for a command that was not started by the workflow."""
    from vitrail import watch

    if watch.started_by_snakemake():
        from vitrail import run_lock

        watch.watch()
        run_lock.hold_step()
