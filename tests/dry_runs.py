"""`snakemake -n` of many configs from one process, which has imported Snakemake once.

    python dry_runs.py SECONDS CONFIG...

in a project's folder prints a line of JSON for each config: its file, the exit code (None when
the time was up) and what Snakemake said on both streams. Each is planned in a fork of its own.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from typing import Any

from snakemake.cli import main as snakemake


def dry_run(config: str, seconds: int) -> dict[str, Any]:
    """What `snakemake -n` says about a config."""
    with tempfile.TemporaryFile() as output:
        if (child := os.fork()) == 0:
            for stream in (1, 2):
                os.dup2(output.fileno(), stream)
            signal.alarm(seconds)
            try:
                snakemake(["-n", "--quiet", "--cores", "2", "--configfile", config])
            except SystemExit as ending:
                if isinstance(ending.code, str):
                    print(ending.code, file=sys.stderr)
                code = ending.code if isinstance(ending.code, int) else int(bool(ending.code))
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
            finally:
                sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
                os._exit(99)
        _, status = os.waitpid(child, 0)
        output.seek(0)
        said = output.read().decode(errors="replace")
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
    return {"config": config, "code": code, "said": said}


if __name__ == "__main__":
    for name in sys.argv[2:]:
        print(json.dumps(dry_run(name, int(sys.argv[1]))), flush=True)
