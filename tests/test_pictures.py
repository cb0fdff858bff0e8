"""`make pictures`: small PNGs of what a study gives, and clear words where it cannot take them."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser import find_browser

pytest.importorskip("PIL", reason="Pillow is not installed")
pytest.importorskip("mlflow", reason="MLflow is not installed")
from PIL import Image

from vitrail import pictures, readme
from vitrail.errors import VitrailError
from vitrail.tracking import store

ROOT = Path(__file__).parents[1]


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def finished(tmp_path: Path, own: None) -> Path:
    """A results folder with a report and an open store, as far as the command looks."""
    report = tmp_path / "tiny" / "report" / "report.html"
    report.parent.mkdir(parents=True)
    report.write_text("<!doctype html><title>x</title><p>Nothing")
    return tmp_path


def test_a_picture_gets_as_few_colours_as_it_must() -> None:
    smooth = np.linspace(0, 255, 1280 * 800 * 3).reshape(800, 1280, 3).astype(np.uint8)
    rough = smooth + np.random.default_rng(0).integers(0, 60, smooth.shape, dtype=np.uint8)
    for pixels in (smooth, rough[:500, :500]):
        made = pictures.small(png(pixels), "study tiny")
        assert len(made) < pictures.LIMIT
        image = Image.open(io.BytesIO(made))
        assert image.info["Source"] == "study tiny"
        assert image.size == (pixels.shape[1], pixels.shape[0])
        error = np.asarray(image.convert("RGB")).astype(int) - pixels
        assert np.abs(error).mean() < 25  # it still shows the same


def test_a_picture_that_stays_too_large_is_told() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, 1280, 3), dtype=np.uint8)
    with pytest.raises(VitrailError, match=r"1280 x 900 takes more than 200000 bytes"):
        pictures.small(png(noise), "study tiny")


def test_the_readme_shows_pictures_of_the_study_in_its_table() -> None:
    facts, _ = readme.read_back((ROOT / "README.md").read_text(encoding="utf-8"))
    shown = {
        path.stem: Image.open(path).info.get("Source")
        for path in (ROOT / "docs" / "pictures").glob("*.png")
    }
    same = pictures.of_study(facts)
    assert shown == dict.fromkeys(("report", "figure", "mlflow"), same), "make readme pictures"


def test_without_a_report_it_says_what_to_run(tmp_path: Path, own: None) -> None:
    with pytest.raises(VitrailError, match=r"report\.html is missing.*make report"):
        pictures.take("tiny", tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_a_store_it_says_what_to_run(finished: Path) -> None:
    with pytest.raises(VitrailError, match=r"mlflow\.db is missing.*make report"):
        pictures.take("tiny", finished, finished / "out")


def test_a_study_that_mlflow_does_not_know_is_named(finished: Path) -> None:
    store.initialise("another", finished)
    with pytest.raises(VitrailError, match=r"no experiment tiny/q6_vit"):
        pictures.take("tiny", finished, finished / "out")


def test_a_server_elsewhere_is_not_looked_at(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org")
    with pytest.raises(VitrailError, match=r"MLFLOW_TRACKING_URI names a server.*unset it"):
        pictures.take("tiny", finished, finished / "out")


def test_without_a_browser_it_says_so(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("playwright", reason="Playwright is not installed")
    shown = pictures.Shown("1", (), "seed")
    monkeypatch.setattr(pictures, "_shown", lambda results, name: shown)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(VitrailError, match=r"no browser .* none of chromium"):
        pictures.take("tiny", finished, finished / "out")


@pytest.mark.end_to_end
def test_pictures_of_the_smoke_study(study: Any, tmp_path: Path, own: None) -> None:
    find_browser()
    made = pictures.take("smoke", study.project / "results", tmp_path)
    assert [file.name for file in made] == ["report.png", "figure.png", "mlflow.png"]
    for file in made:
        assert file.stat().st_size < pictures.LIMIT
        pixels = np.asarray(Image.open(file).convert("L"))
        assert pixels.shape[1] >= 600 and pixels.std() > 10, "something is to be seen"
