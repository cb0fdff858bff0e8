"""Finding, refusing and adapting pretrained weights, on files in timm's own formats.

The weights are random numbers: what is tested is where each of them ends up.
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitrail.errors import VitrailError
from vitrail.files import read_json, sha256

torch = pytest.importorskip("torch", reason="torch is not installed")
timm = pytest.importorskip("timm", reason="timm is not installed")

from huggingface_hub import constants  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from made_hub import COMMIT, Hub, use_hub  # noqa: E402
from vitrail import weights  # noqa: E402
from vitrail.checkpoint import read_weights  # noqa: E402

MODEL, TAG = "vit_tiny_patch16_224", "augreg_in21k_ft_in1k"
NAME = f"{MODEL}.{TAG}"
State = dict[str, Any]


@pytest.fixture(scope="module")
def state() -> State:
    """Random tensors under the names and in the shapes of the model."""
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in timm.create_model(MODEL).state_dict().items()}
    return {key: 0.05 * torch.randn(shape, generator=generator) for key, shape in shapes.items()}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, state: State) -> Path:
    """A whole safetensors file."""
    path = tmp_path_factory.mktemp("weights") / f"{NAME}.safetensors"
    save_file(state, path)
    return path


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache of the hub, and no hub, unless a test says otherwise."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)


def save_npz(path: Path, state: State) -> Path:
    """Write weights in the layout of the original JAX code (heads apart, kernels transposed)."""
    heads, arrays = 3, {}
    width = state["cls_token"].shape[-1]

    def put(name: str, key: str) -> None:
        value = state[f"{key}.weight"].numpy()
        if value.ndim == 1:
            arrays[f"{name}/scale"] = value
        else:
            arrays[f"{name}/kernel"] = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
        arrays[f"{name}/bias"] = state[f"{key}.bias"].numpy()

    arrays["cls"] = state["cls_token"].numpy()
    arrays["Transformer/posembed_input/pos_embedding"] = state["pos_embed"].numpy()
    put("embedding", "patch_embed.proj")
    put("Transformer/encoder_norm", "norm")
    put("head", "head")
    for block in range(12):
        ours, theirs = f"blocks.{block}", f"Transformer/encoderblock_{block}"
        put(f"{theirs}/LayerNorm_0", f"{ours}.norm1")
        put(f"{theirs}/LayerNorm_2", f"{ours}.norm2")
        put(f"{theirs}/MlpBlock_3/Dense_0", f"{ours}.mlp.fc1")
        put(f"{theirs}/MlpBlock_3/Dense_1", f"{ours}.mlp.fc2")
        attention = f"{theirs}/MultiHeadDotProductAttention_1"
        kernels = state[f"{ours}.attn.qkv.weight"].numpy().reshape(3, width, width)
        biases = state[f"{ours}.attn.qkv.bias"].numpy().reshape(3, heads, -1)
        for name, kernel, bias in zip(("query", "key", "value"), kernels, biases, strict=True):
            arrays[f"{attention}/{name}/kernel"] = kernel.T.reshape(width, heads, -1)
            arrays[f"{attention}/{name}/bias"] = bias
        out = state[f"{ours}.attn.proj.weight"].numpy()
        arrays[f"{attention}/out/kernel"] = out.T.reshape(heads, -1, width)
        arrays[f"{attention}/out/bias"] = state[f"{ours}.attn.proj.bias"].numpy()
    np.savez(path, **arrays)
    return path


def found(path: Path) -> dict[str, Any]:
    return weights.find(MODEL, TAG, str(path))


# Adapting


def build(path: Path, **settings: Any) -> Any:
    torch.manual_seed(1)
    return weights.create_pretrained(MODEL, found(path), **settings).eval()


SMALL = {"img_size": 28, "patch_size": 7, "num_classes": 10}


def test_positions_patches_and_head_are_adapted_and_the_rest_is_kept(
    good: Path, state: State
) -> None:
    from timm.layers import resample_abs_pos_embed, resample_patch_embed

    net = build(good, **SMALL)
    adapted = net.state_dict()
    positions = resample_abs_pos_embed(state["pos_embed"], [4, 4], num_prefix_tokens=1)
    torch.testing.assert_close(adapted["pos_embed"], positions, rtol=0, atol=0)
    torch.testing.assert_close(adapted["pos_embed"][:, 0], state["pos_embed"][:, 0])
    kernel = resample_patch_embed(state["patch_embed.proj.weight"], [7, 7])
    torch.testing.assert_close(adapted["patch_embed.proj.weight"], kernel, rtol=0, atol=0)
    assert adapted["head.weight"].shape == (10, 192)
    for key in set(state) - {"pos_embed", "patch_embed.proj.weight", "head.weight", "head.bias"}:
        assert torch.equal(adapted[key], state[key]), key
    assert net(torch.zeros(1, 3, 28, 28)).shape == (1, 10)
    assert "state_dict" not in net.pretrained_cfg, "it would double the memory"


def test_one_channel_is_the_same_as_gray_three_times(good: Path, state: State) -> None:
    gray = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(3))
    one, three = build(good, **SMALL, in_chans=1), build(good, **SMALL)
    with torch.no_grad():
        torch.testing.assert_close(
            one.forward_features(gray),
            three.forward_features(gray.expand(-1, 3, -1, -1)),
            rtol=1e-4,
            atol=1e-4,
        )
    native = build(good, in_chans=1, num_classes=10).state_dict()["patch_embed.proj.weight"]
    torch.testing.assert_close(native, state["patch_embed.proj.weight"].sum(1, keepdim=True))


@pytest.mark.parametrize("kind", ["pth", "pth wrapped", "npz"])
def test_the_type_of_file_makes_no_difference(
    tmp_path: Path, good: Path, state: State, kind: str
) -> None:
    path = tmp_path / f"{NAME}.{kind[:3]}"
    if kind == "npz":
        save_npz(path, state)
    else:
        torch.save({"model": state, "epoch": 3} if kind == "pth wrapped" else state, path)
    ours, reference = build(path, **SMALL).state_dict(), build(good, **SMALL).state_dict()
    assert list(ours) == list(reference)
    for key, value in reference.items():
        if not key.startswith("head."):
            assert torch.equal(ours[key], value), key
    native = build(path, num_classes=1000).state_dict()
    assert all(torch.equal(native[key], value) for key, value in state.items())


def test_the_head_depends_on_the_seed_only(good: Path) -> None:
    first, second = build(good, **SMALL), build(good, **SMALL)
    assert torch.equal(first.head.weight, second.head.weight)
    assert first.head.weight.std() > 0


@pytest.mark.parametrize("settings", [{"img_size": 28}, {"img_size": 28, "patch_size": 8}])
def test_patches_that_do_not_cover_the_image_are_refused(good: Path, settings: Any) -> None:
    with pytest.raises(VitrailError, match=r"patch_size (16|8) does not divide the image size 28"):
        build(good, num_classes=10, **settings)


def test_a_file_that_changed_after_the_check_is_refused(tmp_path: Path, good: Path) -> None:
    path = tmp_path / good.name
    path.write_bytes(good.read_bytes())
    record = found(path)
    path.write_bytes(good.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(VitrailError, match="not the file that was checked"):
        weights.create_pretrained(MODEL, record)
    with pytest.raises(VitrailError, match="cannot start from ImageNet weights: no file"):
        weights.create_pretrained(MODEL, {"status": "not available", "reason": "no file"})


# Refusing


class Hostile:
    """An object that creates a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("name", ["torch.pth", "plain.pth", "x.safetensors", "x.npz", "object.npz"])
def test_a_hostile_pickle_is_refused_and_not_run(tmp_path: Path, state: State, name: str) -> None:
    mark, path = tmp_path / "mark", tmp_path / name
    payload = {**state, "extra": Hostile(mark)}
    if name == "torch.pth":
        torch.save(payload, path)
    elif name == "object.npz":
        save_npz(path, state)
        arrays = dict(np.load(path))
        arrays["cls"] = np.array([Hostile(mark)], dtype=object)
        np.savez(path, **arrays)
    else:
        path.write_bytes(pickle.dumps(payload, protocol=2))
    with pytest.raises(VitrailError) as error:
        found(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert not mark.exists(), "the payload ran"
    if path.suffix == ".pth":
        assert "refused" in str(error.value)


@pytest.mark.parametrize("keep", [0, 5, 300, -1])
@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pth"])
def test_a_truncated_file_is_named(
    tmp_path: Path, good: Path, state: State, suffix: str, keep: int
) -> None:
    path = tmp_path / f"{NAME}{suffix}"
    if suffix == ".npz":
        save_npz(path, state)
    elif suffix == ".pth":
        torch.save(state, path)
    else:
        path.write_bytes(good.read_bytes())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(VitrailError) as error:
        found(path)
    assert str(error.value).startswith(str(path))


def changed(state: State, kind: str) -> State:
    other = dict(state)
    if kind == "lacks":
        del other["blocks.3.mlp.fc1.bias"]
    elif kind == "besides":
        other["blocks.12.norm1.bias"] = torch.zeros(192)
    elif kind == "shape":
        other["blocks.0.attn.qkv.weight"] = torch.zeros(384, 192)
    elif kind == "classes":
        other["head.weight"] = torch.zeros(21843, 192)
    elif kind == "finite":
        other["norm.bias"] = torch.full((192,), float("nan"))
    return other


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("lacks", r"lacks blocks\.3\.mlp\.fc1\.bias"),
        ("besides", r"has blocks\.12\.norm1\.bias besides"),
        ("shape", r"attn\.qkv\.weight has shape \(384, 192\) instead of \(576, 192\)"),
        ("classes", r"head\.weight has shape \(21843, 192\) instead of \(1000, 192\)"),
        ("finite", r"norm\.bias holds values that are not finite"),
    ],
)
def test_the_weights_of_something_else_are_refused(
    tmp_path: Path, state: State, kind: str, said: str
) -> None:
    """timm would load what fits, log the rest and go on with random numbers."""
    save_file(changed(state, kind), tmp_path / "w.safetensors")
    with pytest.raises(VitrailError, match=said):
        found(tmp_path / "w.safetensors")


def test_a_file_without_a_head_will_do(tmp_path: Path, state: State) -> None:
    trunk = {key: value for key, value in state.items() if not key.startswith("head.")}
    save_file(trunk, tmp_path / "w.safetensors")
    assert build(tmp_path / "w.safetensors", **SMALL).head.weight.shape == (10, 192)


def test_names_in_the_config_that_lead_nowhere(tmp_path: Path, good: Path) -> None:
    with pytest.raises(VitrailError, match=r"pretrained\.path: there is no file"):
        found(tmp_path / "nowhere.safetensors")
    with pytest.raises(VitrailError, match=r"pretrained\.path: the folder .* has none of"):
        found(tmp_path)
    other = tmp_path / f"{MODEL}.augreg_in21k.safetensors"
    other.write_bytes(good.read_bytes())
    with pytest.raises(VitrailError, match=r"by its name not .*the setting `pretrained`"):
        found(other)
    (tmp_path / "w.bin").write_bytes(b"")
    with pytest.raises(VitrailError, match="has to end in one of"):
        found(tmp_path / "w.bin")
    with pytest.raises(VitrailError, match=rf"config: pretrained: .* has the tags .*{TAG}"):
        weights.find(MODEL, "augreg_in2k")
    with pytest.raises(VitrailError, match="not a model with pretrained weights"):
        weights.find("vit_nano", TAG)


# Finding


def test_a_file_or_a_folder_in_the_config(tmp_path: Path, good: Path) -> None:
    record = found(good)
    assert record | {
        "status": "available",
        "reason": "",
        "source": "file",
        "path": str(good),
        "sha256": sha256(good),
        "mean": [0.5, 0.5, 0.5],
        "dataset": "ImageNet-21k",
    } == record  # fmt: skip
    assert found(good.parent) == record
    (tmp_path / "hub_layout").mkdir()
    (tmp_path / "hub_layout" / "model.safetensors").symlink_to(good)
    assert found(tmp_path / "hub_layout")["sha256"] == record["sha256"]


def test_the_default_folder_is_used_when_the_config_names_nothing(
    tmp_path: Path, good: Path, state: State
) -> None:
    folder = tmp_path / "results" / "weights"
    folder.mkdir(parents=True)
    torn = folder / f"{NAME}.safetensors"
    torn.write_bytes(good.read_bytes()[:1000])
    record = weights.find(MODEL, TAG)
    assert record["status"] == "not available"
    assert f"results/weights/{torn.name} cannot be read as weights" in record["reason"]
    torn.unlink()
    torch.save(state, folder / f"{NAME}.pth")
    assert weights.find(MODEL, TAG)["path"] == f"results/weights/{NAME}.pth"


def test_not_available_says_why_and_what_to_do() -> None:
    record = weights.find(MODEL, TAG)
    assert record["status"] == "not available"
    assert record["source"] is record["path"] is record["sha256"] is None
    assert "HF_HUB_OFFLINE is set" in record["reason"]
    assert "snakemake --cores all --forcerun imagenet_weights" in record["remedy"]
    assert "pretrained.path" in record["remedy"]


@pytest.mark.parametrize(
    ("tag", "dataset", "word"),
    [
        ("augreg_in1k", "ImageNet-1k", "labelled"),
        ("augreg_in21k", "ImageNet-21k", "14 million"),
        ("augreg_in21k_ft_in1k", "ImageNet-21k", "fine-tuned"),
        ("fb_in22k_ft_in1k", "ImageNet-21k", "fine-tuned"),
        ("in1k", "ImageNet-1k", "labelled"),
        ("dino", "ImageNet-1k", "without labels"),
        ("lvd142m", "not ImageNet", "lvd142m"),
    ],
)
def test_the_report_can_say_which_imagenet(tag: str, dataset: str, word: str) -> None:
    assert weights.trained_on(tag)[0] == dataset
    assert word in weights.trained_on(tag)[1]


# The hub


def put_in_cache(cache: Path, good: Path, blob: str) -> Path:
    """The layout of the hub's cache: blobs by checksum, snapshots by commit."""
    repository = cache / f"models--timm--{NAME}"
    for part in ("blobs", "refs", f"snapshots/{COMMIT}"):
        (repository / part).mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "blobs" / blob).write_bytes(good.read_bytes())
    file = repository / "snapshots" / COMMIT / "model.safetensors"
    file.symlink_to(f"../../blobs/{blob}")
    return file


def test_a_cached_file_is_used_without_network(tmp_path: Path, good: Path) -> None:
    """The whole command, in a process of its own that reads HF_HOME."""
    home = tmp_path / "home"
    file = put_in_cache(home / "hub", good, sha256(good))
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGINGFACE"))}
    environment |= {
        "HF_HOME": str(home),
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "PYTHONPATH": str(Path(weights.__file__).parents[1]),
    }
    out = tmp_path / "weights.json"
    arguments = ["--model", MODEL, "--tag", TAG, "--path", "", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "vitrail.weights", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    record = read_json(out)
    assert (record["status"], record["source"]) == ("available", "hub")
    assert record["path"] == str(file)
    assert record["sha256"] == sha256(good)


def test_a_cached_file_that_is_damaged_is_named(
    tmp_path: Path, good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = put_in_cache(tmp_path / "hub", good, "0" * 64)
    assert weights.find(MODEL, TAG)["status"] == "not available"
    assert f"{file} is damaged" in capsys.readouterr().out


def test_an_unreachable_hub_costs_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        use_hub(monkeypatch, endpoint)
        start = time.monotonic()
        record = weights.find(MODEL, TAG)
    assert time.monotonic() - start < 10
    assert record["status"] == "not available"
    assert f"the hub {endpoint} cannot be reached" in record["reason"]


@pytest.fixture
def hub(good: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    running = Hub(NAME, good.read_bytes())
    use_hub(monkeypatch, running.url)
    yield running
    running.http.shutdown()
    running.http.server_close()


def test_the_hub_is_asked_once_and_then_the_cache(tmp_path: Path, good: Path, hub: Hub) -> None:
    record = weights.find(MODEL, TAG)
    assert (record["status"], record["source"]) == ("available", "hub"), record["reason"]
    assert record["sha256"] == sha256(good)
    assert Path(record["path"]).is_relative_to(tmp_path / "hub")
    hub.asked.clear()
    assert weights.find(MODEL, TAG) == record
    assert hub.asked == []


def test_a_damaged_cache_is_filled_again(tmp_path: Path, good: Path, hub: Hub) -> None:
    blob = put_in_cache(tmp_path / "hub", good, sha256(good)).resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"\x7f")
    record = weights.find(MODEL, TAG)
    assert record["status"] == "available", record["reason"]
    assert sha256(blob) == sha256(good)


def test_a_hub_that_sends_something_else_or_nothing(hub: Hub) -> None:
    hub.content = pickle.dumps({"not": "tensors"})
    assert "cannot be read as weights" in weights.find(MODEL, TAG)["reason"]
    record = weights.find("vit_small_patch16_224", "augreg_in1k")
    assert record["status"] == "not available"
    assert f"the hub {hub.url} did not give timm/vit_small" in record["reason"]


def test_read_weights_gives_float32(tmp_path: Path, state: State) -> None:
    half = {key: value.half() for key, value in state.items()}
    save_file(half, tmp_path / "w.safetensors")
    read = read_weights(tmp_path / "w.safetensors", MODEL, TAG)
    assert {value.dtype for value in read.values()} == {torch.float32}
