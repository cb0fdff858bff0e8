"""The linear probe: the trunk does not move by a bit, and its features are computed once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from vitrail import train
from vitrail.data import Mnist, split
from vitrail.errors import VitrailError
from vitrail.linear_probe import features, freeze_trunk
from vitrail.networks import build, head_of
from vitrail.runs import expand
from vitrail.settings import relevant
from vitrail.train import Log, fit

CPU = torch.device("cpu")
KINDS: dict[str, dict[str, Any]] = {
    "vit": {"model": "vit", "patch_size": 14},
    "cnn": {"model": "cnn", "channels": 8},
    "timm ViT": {"model": "timm", "timm_model": "vit_tiny_patch16_224", "patch_size": 14},
    "timm CNN": {"model": "timm", "timm_model": "tf_efficientnet_lite0"},
}


def probe(config: dict[str, Any], kind: str, **more: Any) -> dict[str, Any]:
    return relevant(
        config["defaults"]
        | {"train_size": 64, "validation": 20, "epochs": 2, "batch_size": 16, "evaluations": 2}
        | {"optimizer": "adamw", "learning_rate": 0.01, "tune": "head"}
        | KINDS[kind]
        | more
    )


def trained(settings: dict[str, Any], mnist: Mnist) -> tuple[nn.Module, Log]:
    torch.manual_seed(0)
    network = build(settings)
    data = split(mnist, settings["validation"], settings["train_size"])
    return network, fit(network, data, settings, 0, CPU, "fp32", "a test")


@pytest.mark.parametrize("moved", [{}, {"translation": 2}], ids=["as they are", "augmented"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_head_alone_moves(
    config: dict[str, Any], mnist: Mnist, kind: str, moved: dict[str, Any]
) -> None:
    """Batch norms as well keep their statistics: they would adapt to the digits."""
    settings = probe(config, kind, **moved)
    torch.manual_seed(0)
    before = build(settings).state_dict()
    network, log = trained(settings, mnist)
    (head,) = [name for name, part in network.named_modules() if part is head_of(network)]
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]) != name.startswith(f"{head}."), name
    assert len(log.history) == 2


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", KINDS)
def test_features_once_are_features_at_each_step(
    config: dict[str, Any], mnist: Mnist, monkeypatch: pytest.MonkeyPatch, kind: str, precision: str
) -> None:
    """The same curve and the same head as with a pass through the trunk at every step."""
    settings = probe(config, kind)
    data = split(mnist, settings["validation"], settings["train_size"])

    def run() -> tuple[nn.Module, Log]:
        torch.manual_seed(0)
        network = build(settings)
        return network, fit(network, data, settings, 0, CPU, precision, "a test")

    once, quick = run()
    # Maps that move nothing: fit believes that every step has images of its own.
    monkeypatch.setattr(train, "augmented", lambda _: True)
    monkeypatch.setattr(train, "moved", lambda images, *_: images)
    each, slow = run()
    torch.testing.assert_close(
        head_of(once).weight,
        head_of(each).weight,
        rtol=0,
        atol=1e-5 if precision == "fp32" else 1e-3,
    )
    for a, b in zip(quick.history, slow.history, strict=True):
        assert a["train_loss"] == pytest.approx(
            b["train_loss"], rel=1e-4 if precision == "fp32" else 1e-2
        )


def test_the_trunk_is_not_run_again(
    config: dict[str, Any], mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = probe(config, "vit", epochs=4)
    seen: list[int] = []
    real = build(settings).__class__.forward

    def counted(self: nn.Module, images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        return real(self, images)

    monkeypatch.setattr(build(settings).__class__, "forward", counted)
    trained(settings, mnist)
    assert sum(seen) == 64 + 20  # training and validation images, each once


def test_features_are_what_the_head_reads(config: dict[str, Any]) -> None:
    network = build(probe(config, "timm CNN"))
    head = freeze_trunk(network)
    images = torch.randn(5, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    found = features(network, images, "fp32", batch_size=2)
    assert found.shape == (5, 1280)
    with torch.no_grad():
        torch.testing.assert_close(head(found), network(images), rtol=1e-4, atol=1e-5)


def test_a_run_counts_all_parameters(config: dict[str, Any], mnist: Mnist) -> None:
    settings = probe(config, "vit")
    whole = relevant({**settings, "tune": "all"} | {"matrix_learning_rate": 0.02})
    counts = [train.run(own, 0, mnist, CPU, None)[3]["parameters"] for own in (settings, whole)]
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("own", "named"),
    [
        ({"optimizer": "muon"}, "tune head .* optimizer muon"),
        ({"grow": "depth"}, "tune head .* nothing can grow"),
        ({"patch_drop_rate": 0.5}, "tune head .* drops no patches"),
        ({"model": "mlp"}, "tune head .* model 'mlp' has no trunk"),
        ({"model": "logistic"}, "tune head .* model 'logistic' has no trunk"),
    ],
)
def test_what_a_probe_cannot_have_is_refused(
    config: dict[str, Any], own: dict[str, Any], named: str
) -> None:
    arms = {"a": {}, "p": {"settings": {"tune": "head", "optimizer": "adamw"} | own}}
    config["questions"]["q2_mlp"]["experiments"] = {"x": {"title": "X", "arms": arms}}
    with pytest.raises(VitrailError, match=rf"x\.arms\.p: {named}"):
        expand(config)


def test_arms_without_a_probe_keep_their_ids(config: dict[str, Any]) -> None:
    plain = config["defaults"] | {"validation": 20}
    assert "tune" not in relevant(plain)
    assert relevant(plain | {"tune": "head"})["tune"] == "head"
