"""Pictures of a finished study for README.md, taken in a real browser: ``make pictures``.

The opening page of the report, one of its figures, and MLflow's UI with the runs of one
question, each as a small PNG.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrail import ui
from vitrail.config import load
from vitrail.errors import VitrailError, run_command
from vitrail.files import read_json
from vitrail.tracking import store
from vitrail.tracking.records import OUTDATED

if TYPE_CHECKING:
    from playwright.sync_api import Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
FIGURE = "fig-q4-heads"  # the figure that is shown, by its id in the report
QUESTION = "q6_vit"  # the question whose runs are shown in MLflow
WINDOW = {"width": 1280, "height": 900}  # CSS pixels
SHARP = 1.5  # pixels of a picture for one of the window
LIMIT = 200_000  # bytes of a picture
PATIENCE = 90  # seconds for the server to come up, and for a page to be drawn


def take(study: str, results: Path, folder: Path) -> list[Path]:
    """Take the pictures and give their paths.

    Raises:
        VitrailError: no report, no store, no browser, or something does not show what it should.
    """
    report = results / study / "report" / "report.html"
    if not report.is_file():
        raise VitrailError(
            f"{report} is missing, so there is nothing to take pictures of; run `make report` "
            "first, with the same CONFIG"
        )
    shown = _shown(results, f"{study}/{QUESTION}")
    folder.mkdir(parents=True, exist_ok=True)
    with _browser() as browser, _served(results) as address:
        page = browser.new_page(viewport=WINDOW, device_scale_factor=SHARP)
        pictures = {
            "report": _opening(page, report),
            "figure": _figure(page, report),
            "mlflow": _runs(page, address, shown),
        }
    about = of_study(read_json(results / study / "study" / "numbers.json"))
    made = []
    for name, picture in pictures.items():
        made.append(folder / f"{name}.png")
        made[-1].write_bytes(small(picture, about))
    return made


def of_study(facts: dict[str, str]) -> str:
    """What a picture says about its origin, so that README's table can be of the same runs.

    Args:
        facts: with the study's `name`, and the `commit` and `hardware` of its runs.
    """
    return "study {name}, runs of {commit} on {hardware}".format_map(facts)


def small(picture: bytes, about: str) -> bytes:
    """A PNG of fewer colours, as many as `LIMIT` allows, with a line about its origin inside.

    Raises:
        VitrailError: even with 16 colours it is too large.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Source", about)
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    for colours in (256, 128, 64, 32, 16):
        out = io.BytesIO()
        image.quantize(colours, dither=Image.Dither.NONE).save(
            out, "PNG", optimize=True, pnginfo=info
        )
        if out.tell() < LIMIT:
            return out.getvalue()
    raise VitrailError(f"a picture of {image.width} x {image.height} takes more than {LIMIT} bytes")


@contextmanager
def _browser() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise VitrailError(
            "Playwright, which drives the browser, is not installed; "
            "`pip install 'vitrail[pictures]'` brings it"
        ) from error
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        raise VitrailError(
            f"there is no browser to take pictures with: none of {', '.join(BROWSERS)} is on PATH"
        )
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program)
        yield browser
        browser.close()


def _opening(page: Page, report: Path) -> bytes:
    page.goto(report.resolve().as_uri())
    return page.screenshot()


def _figure(page: Page, report: Path) -> bytes:
    page.goto(report.resolve().as_uri())
    figure = page.locator(f"figure#{FIGURE}")
    if figure.count() != 1:
        raise VitrailError(f"{report} has no figure {FIGURE}; name another one in {__file__}")
    # Room around it, and without the line below it, which would reach into that room.
    room = f"#{FIGURE} {{ margin: 0 -16px; padding: 16px }} .source {{ visibility: hidden }}"
    page.add_style_tag(content=room)
    return figure.screenshot()


@dataclass(frozen=True)
class Shown:
    """The experiment to show: its id in MLflow, and an arm (id of its run) with a seed's name."""

    experiment: str
    arms: tuple[str, ...]
    seed: str


def _shown(results: Path, name: str) -> Shown:
    """What MLflow's picture shows: one experiment, its two latest arms with their seeds."""
    from mlflow import MlflowClient

    if store.is_server(store.given_uri()):
        raise VitrailError(
            "MLFLOW_TRACKING_URI names a server, and pictures are taken of the runs on this "
            "machine; unset it for this command"
        )
    ui.command(results, 5000)  # says what to do where there is no store
    client = MlflowClient(store.tracking_uri(results))
    found = client.get_experiment_by_name(name)
    if found is None:
        raise VitrailError(f"MLflow knows no experiment {name}; run `make report` again")
    logged = client.search_runs([found.experiment_id], order_by=["attributes.start_time DESC"])
    runs = [run for run in logged if OUTDATED not in run.data.tags]
    seeds = {run.data.tags["mlflow.parentRunId"]: run for run in runs if _is_seed(run)}
    if not seeds:
        raise VitrailError(f"MLflow has no runs in {name}; fill it with {store.REFILL}")
    arms = [run.info.run_id for run in runs if run.info.run_id in seeds][:2]
    return Shown(str(found.experiment_id), tuple(arms), str(seeds[arms[0]].info.run_name))


def _is_seed(run: Any) -> bool:
    return "mlflow.parentRunId" in run.data.tags


@contextmanager
def _served(results: Path) -> Iterator[str]:
    """The address of MLflow's UI while it is up, on a port that is free."""
    with socket.socket() as probe:
        probe.bind((ui.HOST, 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "vitrail.ui", "--results", str(results), "--port", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    address = f"http://{ui.HOST}:{port}"
    try:
        _wait_for(f"{address}/health", server)
        yield address
    finally:
        ui.stop(server)


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - our own server
                return
        except OSError:
            time.sleep(0.3)
    raise VitrailError("MLflow's UI did not come up; `make ui` shows what it says")


# What MLflow's UI remembers of its looks between visits; a version that does not know these
# names shows its own columns, with the arms folded.
_COLUMNS = ("metrics.`test_accuracy`", "metrics.`test_errors`", "metrics.`parameters`",
            "params.`patch_size`", "params.`pos_embed`")  # fmt: skip
_REMEMBER = "for (const [name, value] of Object.entries({})) localStorage.setItem(name, value)"


def _runs(page: Page, address: str, shown: Shown) -> bytes:
    looks = {
        "selectedColumns": _COLUMNS,
        "runsExpanded": dict.fromkeys(shown.arms, True),
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
    }
    remembered = {
        "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
        "mlflow.assistant.panelOpen_v1": "false",
        f'MLflowLocalStorage-1.1-ExperimentPage-["{shown.experiment}"]-ReactComponentState': (
            json.dumps(looks)
        ),
    }
    page.add_init_script(_REMEMBER.format(json.dumps(remembered)))
    page.goto(f"{address}/#/experiments/{shown.experiment}/runs?workflowType=machine_learning")
    page.get_by_text(shown.seed).first.wait_for(timeout=1000 * PATIENCE)
    page.wait_for_timeout(1000)  # icons and colours come after the words
    return page.screenshot()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Take the pictures of README.md.")
    parser.add_argument("--config", type=Path, nargs="+", required=True, help="names the study")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    arguments = parser.parse_args()
    for file in take(load(arguments.config)["study"], arguments.results, arguments.out):
        print(f"vitrail: {file}, {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    run_command(main)
