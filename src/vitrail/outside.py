"""What may leave this machine: no telemetry of the tools, and nothing at all when asked.

Imported with the package, so it holds for every step, whoever starts it: `make`, Snakemake,
or a command typed by hand. Each program reads its variable when it starts; a variable that the
user has set is left alone.
"""

from __future__ import annotations

import os

OFFLINE = "VITRAIL_OFFLINE"

# Programs of the dependencies that report on their use, or ask for newer versions.
QUIET = {
    "DO_NOT_TRACK": "true",  # several; MLflow wants this word
    "MLFLOW_DISABLE_TELEMETRY": "true",  # also of its UI, in the browser
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, which timm downloads with
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "NO_UPDATE_NOTIFIER": "1",  # npm
    "DENO_NO_UPDATE_CHECK": "1",  # the runtime of Quarto
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}
# What keeps them from the network altogether.
CLOSED = {"HF_HUB_OFFLINE": "1", "npm_config_offline": "true"}


def offline() -> bool:
    """Whether the user forbids downloads: VITRAIL_OFFLINE is set to anything but 0."""
    return os.environ.get(OFFLINE, "") not in ("", "0")


def settle() -> None:
    """Set the variables, for this process and those that it starts."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if offline():
        os.environ.update(CLOSED)
