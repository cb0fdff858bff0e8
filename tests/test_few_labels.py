"""Few labels: which images keep theirs, early stopping on some of them, a teacher's outputs."""

from __future__ import annotations

import argparse
import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_model
from torch import nn

from vitrail import gradients, train
from vitrail.data import Mnist, Split
from vitrail.distillation import TEMPERATURE, WEIGHT, distilled, taught
from vitrail.early_stopping import Best
from vitrail.errors import VitrailError
from vitrail.few_labels import hold_out, labelled, with_labels
from vitrail.setting_checks import checked
from vitrail.settings import images_of, labels_of, steps_of

LABELS = np.random.default_rng(0).integers(0, 10, size=4000).astype(np.uint8)


def numbered(count: int = 4000) -> Split:
    """Images that hold their own number, so that it can be told which were taken."""
    images = np.zeros((count, 28, 28), dtype=np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.arange(count) % 256, np.arange(count) // 256
    return Split(images, LABELS[:count], images[:100], LABELS[:100])


def numbers(images: np.ndarray) -> list[int]:
    return [int(image[0, 0]) + 256 * int(image[0, 1]) for image in images]


# --- Which labels


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_budgets_are_balanced_and_nested(seed: int) -> None:
    before: set[int] = set()
    for budget in (10, 100, 1000, 3000):
        places = labelled(LABELS, budget, seed)
        assert len(set(places)) == budget
        assert set(np.bincount(LABELS[places], minlength=10)) == {budget // 10}
        assert before <= set(places)
        before = set(places)


def test_the_subset_depends_on_the_seed_alone() -> None:
    first = labelled(LABELS, 100, 0)
    assert np.array_equal(first, labelled(LABELS, 100, 0))
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - the point is that it changes nothing
    assert np.array_equal(first, labelled(LABELS, 100, 0))
    assert not np.array_equal(first, labelled(LABELS, 100, 1))
    # By chance two subsets of 100 out of 4,000 share two or three images.
    assert len(set(first) & set(labelled(LABELS, 100, 1))) < 15


def test_all_labels_are_all_images() -> None:
    assert np.array_equal(labelled(LABELS, 4000, 3), np.arange(4000))


def test_a_class_that_is_too_small_is_named() -> None:
    few = np.repeat(np.arange(10), [50] * 9 + [5]).astype(np.uint8)
    with pytest.raises(VitrailError, match=r"10 images of each class, .* 5 of the digit 9 .*lower"):
        labelled(few, 100, 0)


def test_images_and_labels_stay_together() -> None:
    data = numbered()
    part = with_labels(data, 200, 1)
    assert [LABELS[n] for n in numbers(part.train_images)] == list(part.train_labels)
    assert np.array_equal(part.validation_images, data.validation_images)
    assert with_labels(data, 0, 1) is data


def test_a_fifth_of_each_class_is_held_out() -> None:
    data = with_labels(numbered(), 500, 2)
    kept, held = hold_out(data, 2)
    assert set(np.bincount(held.train_labels)) == {10}
    assert set(np.bincount(kept.train_labels)) == {40}
    mine, others = numbers(held.train_images), numbers(kept.train_images)
    assert sorted(mine + others) == sorted(numbers(data.train_images))
    assert [LABELS[n] for n in mine] == list(held.train_labels)
    assert numbers(hold_out(data, 2)[1].train_images) == mine
    assert numbers(hold_out(data, 3)[1].train_images) != mine


# --- Settings


def resolved(config: dict[str, Any], **own: Any) -> dict[str, Any]:
    return checked({**config["defaults"], "validation": 100}, own, "here")


def test_steps_take_the_place_of_epochs(config: dict[str, Any]) -> None:
    settings = resolved(config, steps=70, epochs=3)
    assert steps_of(settings) == 70
    assert "epochs" not in settings
    assert settings == resolved(config, steps=70, epochs=9)
    assert len(list(train.batches(100, settings, 0))) == 70


@pytest.mark.parametrize(("samples", "steps"), [(100, 1), (100, 7), (64, 3), (320, 5), (320, 12)])
def test_batches_go_round_until_the_steps_are_done(
    config: dict[str, Any], samples: int, steps: int
) -> None:
    settings = resolved(config, steps=steps, evaluations=1, batch_size=64)
    drawn = list(train.batches(samples, settings, 0))
    assert [len(batch) for batch in drawn] == [64] * steps
    whole = samples // 64
    for start in range(0, steps, whole):  # within an epoch no image comes twice
        epoch = torch.cat(drawn[start : start + whole])
        assert len(epoch.unique()) == len(epoch)


def test_what_a_run_trains_on(config: dict[str, Any]) -> None:
    assert labels_of(resolved(config)) == images_of(resolved(config)) == 55_000
    few = resolved(config, label_budget=100, steps=5)
    assert (labels_of(few), images_of(few)) == (100, 100)
    stopped = resolved(config, label_budget=1000, epochs=1, early_stopping=True, batch_size=50)
    assert (labels_of(stopped), images_of(stopped), steps_of(stopped)) == (1000, 800, 16)


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"label_budget": 105}, "label_budget 105 is shared equally by the 10 classes"),
        ({"label_budget": 54_000}, "multiple of 10 up to 46,750, or all 55,000"),
        ({"label_budget": 50, "steps": 9}, "batch_size 64 is larger than label_budget 50"),
        (
            {"label_budget": 70, "steps": 9, "early_stopping": True},
            "label_budget 70, of which early_stopping holds a fifth out",
        ),
        ({"steps": 3}, "steps 3 are fewer than evaluations 4"),
        ({"start": "x", "grow": "depth"}, "start and grow both say what"),
        (
            {"early_stopping": True, "evaluations": 1},
            "early_stopping chooses among the evaluations, and there is one; raise",
        ),
        (
            {"tune": "head", "optimizer": "adamw", "early_stopping": True},
            "tune head .* early_stopping does not see; leave early_stopping out",
        ),
        ({"tune": "head", "optimizer": "adamw", "teacher": "x"}, "leave teacher out"),
    ],
)
def test_labels_that_make_no_sense_are_refused(
    config: dict[str, Any], own: dict[str, Any], words: str
) -> None:
    with pytest.raises(VitrailError, match=f"^config: here: .*{words}"):
        resolved(config, **own)


# --- Early stopping


def test_the_best_weights_come_back() -> None:
    network, best = nn.Linear(1, 1), Best()
    for value, loss in ((1.0, 0.9), (2.0, 0.3), (3.0, math.nan), (4.0, 0.5)):
        nn.init.constant_(network.weight, value)
        best.look(network, loss)
    best.restore(network)
    assert network.weight.item() == 2
    assert best.look_number == 1


def test_without_a_finite_loss_the_last_weights_stay() -> None:
    network, best = nn.Linear(1, 1), Best()
    best.look(network, math.inf)
    nn.init.constant_(network.weight, 7)
    best.restore(network)
    assert (network.weight.item(), best.look_number) == (7, -1)


def fitted(settings: dict[str, Any], data: Split, **more: Any) -> tuple[nn.Module, train.Log]:
    torch.manual_seed(0)
    network = train.build(settings)
    cpu = torch.device("cpu")
    return network, train.fit(network, data, settings, 0, cpu, "fp32", "x", **more)


def small(config: dict[str, Any], **own: Any) -> dict[str, Any]:
    size = {"embed_dim": 32, "depth": 1, "num_heads": 2, "train_size": 4000}
    return resolved(config, **size, label_budget=100, batch_size=40, **own)


def test_early_stopping_keeps_an_evaluation_and_never_trains_on_its_labels(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images are noise, so that what is learned does not help on those held out."""
    noise = np.random.default_rng(1).integers(0, 255, (4000, 28, 28)).astype(np.uint8)
    data = with_labels(dataclasses.replace(numbered(), train_images=noise), 100, 0)
    settings = small(config, steps=120, evaluations=8, early_stopping=True)
    seen: set[float] = set()
    gradient = gradients.gradient

    def spied(network: nn.Module, batch: train.Batch, *rest: Any) -> torch.Tensor:
        seen.update(batch[0].flatten(1).sum(dim=1).tolist())
        return gradient(network, batch, *rest)

    monkeypatch.setattr(gradients, "gradient", spied)
    network, log = fitted(settings, data)
    assert len(seen) == 80
    kept, held = hold_out(data, 0)
    cpu = torch.device("cpu")
    own = train.pixels(held.train_images, settings, cpu)
    assert not seen & set(own.flatten(1).sum(dim=1).tolist())
    assert 0 <= log.kept < 7  # noise: the last evaluation is not the best one
    found = train.score(
        train.logits_of(network, train.pixels(data.validation_images, settings, cpu), "fp32"),
        torch.from_numpy(data.validation_labels).long(),
    )
    assert found[0] == pytest.approx(log.history[log.kept]["val_loss"])
    assert len(kept.train_labels) == 80


# --- Distillation


def test_a_student_that_agrees_pays_nothing_to_the_teacher() -> None:
    logits = torch.randn(5, 10, generator=torch.Generator().manual_seed(0))
    loss = torch.tensor(2.0)
    agreed = distilled(loss, logits, logits + 3.0)  # a shift of all logits is the same teacher
    assert agreed.item() == pytest.approx((1 - WEIGHT) * 2.0, abs=1e-6)


def test_the_teachers_term_is_written_out() -> None:
    generator = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(2, 6, 10, generator=generator)
    gap = 0.0
    for s, t in zip(student, teacher, strict=True):
        p, q = F.softmax(t / TEMPERATURE, 0), F.softmax(s / TEMPERATURE, 0)
        gap += float((p * (p.log() - q.log())).sum()) / 6
    found = distilled(torch.tensor(0.5), student, teacher).item()
    assert found == pytest.approx((1 - WEIGHT) * 0.5 + WEIGHT * TEMPERATURE**2 * gap, rel=1e-5)


def test_the_student_moves_toward_its_teacher_and_the_teacher_stays(
    config: dict[str, Any],
) -> None:
    settings = small(config, steps=60, evaluations=1)
    # One of ten patches is bright; the teacher tells which, the labels know nothing of it.
    places = np.arange(100) % 10
    images = np.zeros((100, 28, 28), dtype=np.uint8)
    for image, place in zip(images, places, strict=True):
        row, column = 7 * (place // 4), 7 * (place % 4)
        image[row : row + 7, column : column + 7] = 255
    data = dataclasses.replace(with_labels(numbered(), 100, 0), train_images=images)
    x = train.pixels(images, settings, torch.device("cpu"))
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).eval()
    with torch.no_grad():
        teacher[1].weight.copy_(x[:10].flatten(1) / 50)
    wanted = taught(teacher, x, "fp32").argmax(dim=1)
    assert wanted.tolist() == places.tolist()
    before = [parameter.clone() for parameter in teacher.parameters()]
    x = train.pixels(images, settings, torch.device("cpu"))
    wanted = taught(teacher, x, "fp32").argmax(dim=1)

    def agreement(**more: Any) -> float:
        network, _ = fitted(settings, data, **more)
        return (network.eval()(x).argmax(dim=1) == wanted).double().mean().item()

    assert agreement(teacher=teacher) > agreement() + 0.5
    for parameter, old in zip(teacher.parameters(), before, strict=True):
        assert torch.equal(parameter, old)
        assert parameter.grad is None


# --- From the settings to the training


def test_early_stopping_looks_at_the_labels_held_out(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[tuple[int, float]] = []
    looked: list[float] = []
    score, look = train.score, Best.look

    def spied_score(logits: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
        found = score(logits, labels)
        scored.append((len(labels), found[0]))
        return found

    def spied_look(self: Best, network: nn.Module, loss: float) -> None:
        looked.append(loss)
        look(self, network, loss)

    monkeypatch.setattr(train, "score", spied_score)
    monkeypatch.setattr(Best, "look", spied_look)
    data = with_labels(numbered(), 100, 0)
    fitted(small(config, steps=6, evaluations=3, early_stopping=True), data)
    # 20 of 100 labels are held out; the validation images are as many as all labels.
    assert looked == [loss for count, loss in scored if count == 20]
    assert len(looked) == 3


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[nn.Module, Split]]:
    """Network and data of every training, none of which takes place."""
    found: list[tuple[nn.Module, Split]] = []

    def noted(network: nn.Module, data: Split, *rest: Any) -> train.Log:
        found.append((network, data))
        row = {"step": 1, "samples": 1, "train_loss": 1, "val_loss": 1, "val_accuracy": 0.1}
        return train.Log([row], [{"step": 1, "seconds": 1}])

    monkeypatch.setattr(train, "fit", noted)
    return found


def test_every_seed_trains_on_its_own_labels(
    config: dict[str, Any], mnist: Mnist, seen: list[tuple[nn.Module, Split]]
) -> None:
    settings = small(config, steps=5, evaluations=1) | {"train_size": 500, "label_budget": 100}
    for seed in (0, 1):
        train.run(settings, seed, mnist, torch.device("cpu"), None)
    for seed, (_, data) in enumerate(seen):
        places = labelled(mnist.train_labels[:500], 100, seed)
        assert np.array_equal(data.train_images, mnist.train_images[places])
    assert not np.array_equal(seen[0][1].train_images, seen[1][1].train_images)


def test_an_arm_goes_on_from_its_start_and_learns_from_the_teacher_of_its_seed(
    config: dict[str, Any],
    tmp_path: Path,
    mnist: Mnist,
    seen: list[tuple[nn.Module, Split]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = small(config, steps=5, evaluations=1) | {"train_size": 500, "label_budget": 100}
    settings |= {"start": "made", "teacher": "cnn-of-a-test"}
    torch.manual_seed(77)
    start = train.build(settings)
    folder = tmp_path / "pretraining" / "made"
    folder.mkdir(parents=True)
    save_model(start, str(folder / "model.safetensors"))
    (tmp_path / "source.json").write_text("{}")
    loaded: list[str] = []
    monkeypatch.setattr(train, "load_mnist", lambda *_, **__: mnist)
    monkeypatch.setattr(train, "load_run", lambda path: loaded.append(path.name) or nn.Identity())
    arguments = argparse.Namespace(
        weights=None, data=tmp_path, study=tmp_path, seeds=[0, 1], checkpoint_seconds=30
    )
    train.train_arm(settings, arguments, torch.device("cpu"))
    assert loaded == ["cnn-of-a-test-s0", "cnn-of-a-test-s1"]
    assert len(seen) == 2
    for network, _ in seen:
        mine, given = network.state_dict(), start.state_dict()
        trunk = [name for name in given if not name.startswith("head.")]
        assert trunk and all(torch.equal(mine[name], given[name]) for name in trunk)
