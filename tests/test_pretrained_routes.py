"""The ImageNet arm, from its weights to the report, by both ways that the weights can come.

The checkpoint is made here, in timm's own format, and the images are textures: an accuracy
means nothing. What is tested is that every step hands on to the next, until the page shows
the arm as one that has run.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import torch

timm = pytest.importorskip("timm", reason="timm is not installed")
pytest.importorskip("pypandoc", reason="the built-in route is not installed")
pytest.importorskip("typst", reason="the built-in route is not installed")

from huggingface_hub import constants  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from made_hub import Hub, use_hub  # noqa: E402
from made_study import experiment, small, write_input_seconds  # noqa: E402
from vitrail import collect, data, runs, style, train, weights  # noqa: E402
from vitrail.config import STEMS  # noqa: E402
from vitrail.data import Mnist  # noqa: E402
from vitrail.files import read_json, sha256, write_json, write_text  # noqa: E402
from vitrail.questions import q8_transfer  # noqa: E402
from vitrail.questions.study import Study  # noqa: E402
from vitrail.report.render import render  # noqa: E402
from vitrail.settings import run_id, weights_file  # noqa: E402

ROOT = Path(__file__).parents[1]
MODEL, TAG = "vit_tiny_patch16_224", "augreg_in21k_ft_in1k"
SETTINGS = {
    "model": "timm", "timm_model": MODEL, "patch_size": 14, "learning_rate": 1e-4,
    "train_size": 64, "validation": 20, "epochs": 1, "batch_size": 32, "evaluations": 2,
    "pixel_mean": 0.5, "pixel_std": 0.5,
}  # fmt: skip
ARMS = {
    "scratch": {"label": "ViT-Ti from scratch", "settings": SETTINGS},
    "imagenet": {"label": "ViT-Ti from ImageNet", "settings": SETTINGS | {"pretrained": TAG}},
    "probe": {
        "label": "ViT-Ti from ImageNet, head alone",
        "settings": SETTINGS | {"pretrained": TAG, "tune": "head"},
    },
}
CLAIMS = [{"id": "helps", "sentence": "It helps.", "better": "imagenet", "worse": "scratch"}]
ONE_CHAPTER = """---
title: Q8 alone
bibliography: references.bib
---

## Another chapter {#sec-q6}

## And another {#sec-q7}

[It helps.]{#claim-q8-helps}

{{< include q8_transfer.qmd >}}

## References {.unnumbered}

::: {#refs}
:::
"""
Command = Callable[..., None]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the main function of a step with these words."""

    def run(step: Any, *words: object) -> None:
        monkeypatch.setattr(sys, "argv", [step.__name__, *map(str, words)])
        step.main()

    return run


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(5)
    path = tmp_path / "made" / f"{MODEL}.{TAG}.safetensors"
    path.parent.mkdir()
    save_file(timm.create_model(MODEL).state_dict(), path)
    return path


@pytest.fixture
def study(
    config: dict[str, Any], tmp_path: Path, mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> Study:
    """Q8 with the three arms and two seeds; nothing has run."""
    small(config, "q8_transfer", transfer=experiment(arms=ARMS, claims=CLAIMS))
    config["seeds"], config["data"]["validation"] = [0, 1], 20
    config["defaults"] |= {"train_size": 64, "epochs": 1, "batch_size": 32, "evaluations": 2}
    for module in (train, data):
        monkeypatch.setattr(module, "load_mnist", lambda *_, **__: mnist)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / "results" / "data" / "source.json", {"route": "made for a test"})
    made = Study(config, tmp_path / "results")
    write_input_seconds(made)
    return made


def chapter(study: Study, root: Path) -> str:
    """The words of the rendered page, which holds the chapter of Q8 alone."""
    shutil.copytree(ROOT / "report", root / "report")
    write_text(root / "report" / "report.qmd", ONE_CHAPTER)
    for stem in STEMS:
        if stem != "q8_transfer":
            write_json(study.folder / stem / "numbers.json", {})
            write_text(study.folder / stem / "answer.md", "None.\n")
            for part in ("tables", "figures"):
                (study.folder / stem / part).mkdir()
    write_json(study.folder / "study" / "numbers.json", {"name": "a test"})
    render(study.plan.study, study.results, root / "report", ROOT, "builtin", ("sec-q8",))
    page = (study.folder / "report" / "report.html").read_text(encoding="utf-8")
    body = re.sub(r"<style>.*?</style>|<annotation.*?</annotation>", "", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).replace("\u00a0", " ").split())


@pytest.mark.parametrize("route", ["file", "hub", "nothing"])
def test_from_the_weights_to_the_report(
    route: str,
    study: Study,
    checkpoint: Path,
    tmp_path: Path,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arms = {member.name: member.arm for member in study.plan.experiments[0].members}
    found = study.folder / weights_file(arms["imagenet"].settings)
    path = checkpoint if route == "file" else ""
    hub = Hub(f"{MODEL}.{TAG}", checkpoint.read_bytes())
    if route == "hub":
        use_hub(monkeypatch, hub.url)
    begun = time.monotonic()
    command(weights, "--model", MODEL, "--tag", TAG, "--path", path, "--out", found)
    assert time.monotonic() - begun < 10
    hub.http.shutdown()
    hub.http.server_close()
    record = read_json(found)
    assert record["source"] == (None if route == "nothing" else route)
    assert record["sha256"] == (None if route == "nothing" else sha256(checkpoint))

    for arm in study.plan.arms.values():
        more = ["--weights", found] if arm.settings.get("pretrained") else []
        command(
            train, "--settings", json.dumps(arm.settings), "--seeds", *arm.seeds, "--data",
            study.results / "data", "--study", study.folder, "--device", "cpu", *more,
        )  # fmt: skip
    command(runs, "--config", json.dumps(study.config), "--out", study.folder / "plan.csv")
    table = collect.run_table(study.folder).set_index("arm")
    for name in ("transfer.imagenet", "transfer.probe"):
        ran = route != "nothing"
        assert set(table.loc[name, "status"]) == {"finished" if ran else "not run"}
        assert bool(table.loc[name, "reason"].any()) != ran
    if route != "nothing":
        folder = study.run_folder(arms["probe"].arm_id, 0)
        trained, given = load_file(folder / "model.safetensors"), load_file(checkpoint)
        assert torch.equal(trained["blocks.3.mlp.fc1.weight"], given["blocks.3.mlp.fc1.weight"])

    style.use()
    q8_transfer.answer(study).save(study.folder / "q8_transfer")
    (claim,) = read_json(study.folder / "q8_transfer" / "claims.json")
    words = chapter(study, tmp_path)
    if route == "nothing":
        assert (claim["verdict"], "did not run" in claim["evidence"]) == ("undecided", True)
        assert "ViT-Ti from ImageNet not run not run" in words
        assert "is not available , so its arms are not run" in words
        return
    assert "points over 2 seeds" in claim["evidence"]
    assert "did not run" not in words and "not run not run" not in words
    for arm in arms.values():
        values = [study.summary(arm.arm_id, seed)["test_accuracy"] for seed in (0, 1)]
        assert f"{100 * sum(values) / 2:.2f}" in words
        assert (study.folder / "runs" / run_id(arm.arm_id, 1)).is_dir()
    source = {"file": "a local file", "hub": "the Hugging Face hub"}[route]
    assert f"{MODEL}.{TAG} ImageNet-21k {source}" in words
