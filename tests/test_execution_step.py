"""The step that computes one network in every way: its rows, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from model_tools import random_images
from vitrail.data import Mnist
from vitrail.errors import VitrailError
from vitrail.execution import __main__ as command
from vitrail.execution import inference, measure, parallel, training, tuning
from vitrail.execution.settings import DEFAULTS, read_settings
from vitrail.execution.table import COLUMNS
from vitrail.execution.ways import Unavailable
from vitrail.files import read_json
from vitrail.networks import build
from vitrail.run_folder import write_run
from vitrail.setting_checks import checked
from vitrail.settings import arm_id, run_id
from vitrail.train import logits_of, pixels, score

CPU = torch.device("cpu")
TINY = {"batch_size": 20, "rounds": 3, "train_batch_size": 4, "train_rounds": 3}
TINY |= {"tune_batch_size": 2, "tune_steps": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, mnist: Mnist) -> Path:
    """The folder of a finished run of a small ViT, with the test accuracy in its summary."""
    from vitrail.config import load

    config = load([Path(__file__).parents[1] / "config" / "default.yaml"])
    own = {"patch_size": 14, "embed_dim": 16, "depth": 2, "num_heads": 2, "train_size": 500}
    defaults = config["defaults"] | {"validation": 50, "batch_size": 50}
    settings = checked(defaults, own, "a test")
    torch.manual_seed(1)
    network = build(settings)
    logits = logits_of(network, pixels(mnist.test_images, settings, CPU), "fp32")
    accuracy = score(logits, torch.from_numpy(mnist.test_labels).long())[1]
    folder = tmp_path_factory.mktemp("runs") / run_id(arm_id(settings), 0)
    rows = {"history.csv": [{"step": 1}], "timing.csv": [{"step": 1}]}
    summary = {"status": "finished", "test_accuracy": accuracy}
    write_run(folder, settings, 0, summary, {}, (network, rows, logits.numpy()))
    return folder


NO_COMPILER = """
import sys, torch
from vitrail.execution.ways import Way, set_up, with_compiled_blocks
from vitrail.model import VisionTransformer

network = VisionTransformer(28, 14, in_chans=1, embed_dim=8, depth=1, num_heads=1)
way = Way("compile", "inference", "forward", "plain", "", 1)
with set_up(way):
    with_compiled_blocks(network)(torch.zeros(1, 1, 28, 28))
print(way.reason)
"""


def test_without_a_compiler_the_row_has_a_reason(tmp_path: Path) -> None:
    # In a process of its own: torch looks for the compiler once.
    variables = {"CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", NO_COMPILER], capture_output=True, text=True,
        env={**os.environ, **variables},
    )  # fmt: skip
    assert "needs a C++ compiler" in done.stdout, done.stdout + done.stderr


def not_here(*_: Any) -> Any:
    """Stands for torch.compile, which takes half a minute."""
    raise Unavailable("not in this test")


def go(
    monkeypatch: pytest.MonkeyPatch, mnist: Mnist, run: Path, out: Path, *more: str
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The command on the stand-in for MNIST, with a ViT-Ti for ViT-S."""
    for module in (inference, training):
        monkeypatch.setitem(module.WAYS, "compile", ("", not_here))
    monkeypatch.setattr(tuning, "MODEL", "vit_tiny_patch16_224")
    monkeypatch.setattr(command, "load_mnist", lambda _, verify: mnist)
    monkeypatch.setattr(command, "keep_freed_memory", lambda: False)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "as before")  # the command sets it
    arguments = ["--run", str(run), "--data", "x", "--out", str(out / "ways.csv")]
    arguments += ["--log-env", str(out / "env.json"), *more]
    monkeypatch.setattr(sys, "argv", ["vitrail.execution", *arguments])
    command.main()
    return pd.read_csv(out / "ways.csv"), read_json(out / "env.json")


def test_the_step_writes_every_row_and_column(
    monkeypatch: pytest.MonkeyPatch, mnist: Mnist, run: Path, tmp_path: Path
) -> None:
    threads = torch.get_num_threads()
    settings = TINY | {"rounds": 12}  # more than the 200 test images: back to the first
    found, facts = go(monkeypatch, mnist, run, tmp_path, "--params", json.dumps(settings))
    assert torch.get_num_threads() == threads
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("env.json", "ways.csv", "ways.csv.sha256")
    ]

    assert list(found.columns) == COLUMNS
    assert list(zip(found["group"], found["name"], strict=True)) == [
        *(("inference", name) for name in ("plain", "sdpa", "compile", "bf16", "int8")),
        *(("training", name) for name in ("plain", "sdpa", "compile", "bf16")),
        *(("training", name) for name in ("checkpointing", "offloading", "data_parallel")),
        *(("tuning", name) for name in ("full", "lora")),
    ]
    compiled = found[found["name"] == "compile"]
    assert (compiled["reason"] == "not in this test").all() and (compiled["rounds"] == 0).all()
    ran = found[found["name"] != "compile"]
    if parallel.cores() < 2:
        ran = ran[ran["name"] != "data_parallel"]
    figures = ["seconds_per_image", "time_ratio", "time_low", "time_high", "setup_seconds"]
    assert (ran[[*figures, "peak_mib", "memory_ratio"]] > 0).all(axis=None)
    assert (ran["seconds_q25"] <= ran["seconds_per_image"]).all()
    assert (ran["seconds_per_image"] <= ran["seconds_q75"]).all()
    assert (ran[ran["name"] == ran["baseline"]][["time_ratio", "memory_ratio"]] == 1).all(axis=None)

    forward = ran[ran["group"] == "inference"].set_index("name")
    assert (forward["images"] == 200).all() and (forward["rounds"] == 12).all()
    summary = read_json(run / "summary.json")
    assert forward.loc["plain", "accuracy"] == pytest.approx(summary["test_accuracy"])
    assert forward.loc["plain", "logit_difference"] == 0
    assert (
        0 < forward.loc["sdpa", "logit_difference"] < 1e-4 < forward.loc["int8", "logit_difference"]
    )
    points = 100 * (forward["accuracy"] - forward.loc["plain", "accuracy"])
    np.testing.assert_allclose(forward["accuracy_points"], points, atol=1e-4)

    train = ran[ran["group"] == "training"].set_index("name")
    assert (train.loc[["checkpointing", "offloading"], "gradient_difference"] == 0).all()
    assert train.loc["bf16", "gradient_difference"] > 1e-4
    assert (train["trainable_parameters"] == train["trainable_parameters"].iloc[0]).all()
    tune = ran[ran["group"] == "tuning"].set_index("name")
    assert tune.loc["lora", "trainable_parameters"] < 0.1 * tune.loc["full", "trainable_parameters"]
    assert tune["reason"].str.contains("--weights was not given").all()
    assert tune["accuracy"].isna().all()
    assert facts["run"] == run.name and facts["settings"] == read_settings(settings)
    assert {"hardware", "load_average", "load_average_after", "threads"} <= set(facts)


def test_imagenet_weights_give_the_tunings_an_accuracy(
    monkeypatch: pytest.MonkeyPatch, mnist: Mnist, tmp_path: Path
) -> None:
    """From a made checkpoint: nothing is said of the value, only of how it comes about."""
    import timm
    from safetensors.torch import save_file

    from vitrail import weights

    model, tag = "vit_tiny_patch16_224", "augreg_in21k_ft_in1k"
    monkeypatch.setattr(tuning, "MODEL", model)
    path = tmp_path / f"{model}.{tag}.safetensors"
    save_file(timm.create_model(model).state_dict(), path)
    found = weights.find(model, tag, str(path))
    given: list[Any] = []
    steps: list[int] = []
    create, step = tuning.create_pretrained, torch.optim.AdamW.step

    def noted(*arguments: Any, **more: Any) -> nn.Module:
        given.append(arguments[1])
        return create(*arguments, **more)

    def counted(self: torch.optim.AdamW) -> None:
        steps.append(len(self.param_groups[0]["params"]))
        step(self)

    monkeypatch.setattr(tuning, "create_pretrained", noted)
    monkeypatch.setattr(torch.optim.AdamW, "step", counted)
    images, labels = random_images(2), torch.arange(2)
    settings = read_settings(TINY)
    full, lora = tuning.measure_tuning(images, labels, mnist, settings, found)
    assert given == [found, found]
    assert steps == [152] * 2 + [26] * 2  # tensors: all of them; A and B of 12 blocks, the head
    assert full.images == lora.images == 60
    assert 0 <= full.accuracy <= 1 and 0 <= lora.accuracy <= 1
    assert full.reason == lora.reason == ""


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"round": 3}, "unknown key 'round'"),
        ({"rounds": 2}, "execution.rounds is a whole number of at least 3"),
        ({"lora_rank": 0}, "execution.lora_rank"),
        ({"batch_size": True}, "execution.batch_size"),
        ({"timeout_seconds": 0.5}, "execution.timeout_seconds"),
        ({"train_batch_size": 5}, "execution.train_batch_size 5 is odd"),
        ({"tune_patch_size": 16}, "execution.tune_patch_size 16 does not divide"),
        ({"device": "tpu"}, "device is 'tpu'"),
        ({"batch_size": 201}, "execution.batch_size 201 is more than the 200 test images"),
    ],
)
def test_a_wrong_setting_is_named(
    change: dict[str, Any], named: str, run: Path, mnist: Mnist, tmp_path: Path
) -> None:
    with pytest.raises(VitrailError) as caught:
        measure.measure(run, mnist, TINY | change, None, tmp_path)
    assert named in str(caught.value)


def test_a_folder_that_is_no_such_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VitrailError, match="is not the folder of a run"):
        measure.trained(tmp_path)
    (tmp_path / "config.json").write_text('{"settings": {"model": "cnn"}}')
    (tmp_path / "summary.json").write_text('{"status": "finished"}')
    with pytest.raises(VitrailError, match="model 'cnn' and finished"):
        measure.trained(tmp_path)


def test_params_that_are_not_json(
    monkeypatch: pytest.MonkeyPatch, mnist: Mnist, run: Path, tmp_path: Path
) -> None:
    with pytest.raises(VitrailError, match="--params"):
        go(monkeypatch, mnist, run, tmp_path, "--params", "{rounds}")
    with pytest.raises(VitrailError, match="mapping"):
        go(monkeypatch, mnist, run, tmp_path, "--params", "[1]")
    assert not list(tmp_path.iterdir())


def test_defaults_are_valid() -> None:
    assert read_settings({}) == DEFAULTS


def test_the_columns_are_described() -> None:
    import vitrail.execution

    text = vitrail.execution.__doc__ or ""
    assert [name for name in COLUMNS if not re.search(rf"\b{name}\b", text)] == []
