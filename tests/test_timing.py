"""The timing step: what it writes, what it refuses, and that its meters measure."""

import json
import platform
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch

from vitrail import timing
from vitrail.efficiency import attention_macs, block_macs, vit_macs
from vitrail.errors import VitrailError
from vitrail.meters import peak_mib, seconds_per_call
from vitrail.model import MultiHeadSelfAttention
from vitrail.timing_settings import DEFAULTS, read_settings

CPU = torch.device("cpu")
MODEL = {"img_size": 28, "in_chans": 1, "num_classes": 10} | {
    "embed_dim": 16,
    "depth": 2,
    "num_heads": 2,
}
TINY = {
    "tokens": [32, 8],
    "widths": [8],
    "heads": 2,
    "patch_sizes": [14, 7],
    "batch_size": 2,
    "model_batch_size": 3,
    "model": MODEL,
    "repeats": 4,
    "min_seconds": 1e-4,
    "max_seconds": 5.0,
    "device": "cpu",
}


def run_main(monkeypatch, params, folder):
    out, env = folder / "attention.csv", folder / "env.json"
    arguments = ["--params", params, "--out", str(out), "--log-env", str(env)]
    monkeypatch.setattr(sys, "argv", ["vitrail.timing", *arguments])
    timing.main()
    return (
        pd.read_csv(out),
        pd.read_csv(folder / "attention_samples.csv"),
        json.loads(env.read_text()),
    )


def test_the_step_writes_every_row_and_column(monkeypatch, tmp_path):
    threads = torch.get_num_threads()
    params = json.dumps(TINY | {"threads": threads + 1})
    table, samples, env = run_main(monkeypatch, params, tmp_path)
    assert torch.get_num_threads() == threads

    assert list(table.columns) == timing.COLUMNS
    cells = set(table[["what", "variant", "pass", "n"]].itertuples(index=False, name=None))
    modes = ("forward", "train")
    assert cells == {
        (what, variant, mode, n)
        for what, variant in (("attention", "naive"), ("attention", "fused"), ("block", "fused"))
        for mode in modes
        for n in (8, 32)
    } | {("model", "fused", mode, n) for mode in modes for n in (5, 17)}
    assert len(table) == len(cells)
    assert table["reason"].isna().all()
    assert (table["repeats"] == 4).all() and (table["inner"] >= 1).all()
    assert (table["min_seconds"] > 0).all() and (table["peak_mib"] > 0).all()
    assert (table["page_faults"] >= 0).all()
    assert (table["min_seconds"] <= table["q25_seconds"]).all()
    assert (table["q25_seconds"] <= table["median_seconds"]).all()
    assert (table["median_seconds"] <= table["q75_seconds"]).all()

    forward = table[table["pass"] == "forward"].set_index(["what", "variant", "n"])
    assert forward.loc[("attention", "naive", 32), "macs"] == 2 * attention_macs(32, 8)
    assert forward.loc[("block", "fused", 8), "macs"] == 2 * block_macs(8, 8)
    naive, fused = (forward.loc[("attention", name, 32), "peak_mib"] for name in ("naive", "fused"))
    assert naive > fused + 0.9 * 2 * 2 * 32**2 * 4 / 2**20  # it holds N x N weights, fused does not
    expected = 3 * vit_macs(**MODEL, patch_size=7)["total"]
    assert forward.loc[("model", "fused", 17), "macs"] == expected
    assert forward.loc[("model", "fused", 17), "patch_size"] == 7

    assert list(samples.columns) == timing.SAMPLE_COLUMNS
    key = ["what", "variant", "pass", "n"]
    by_cell = samples.groupby(key)
    for row in table.to_dict("records"):
        own = by_cell.get_group(tuple(row[column] for column in key))
        assert sorted(own["repeat"]) == [0, 1, 2, 3]
        assert own["seconds"].median() == pytest.approx(row["median_seconds"], rel=1e-4)

    assert {
        "hardware",
        "cores",
        "versions",
        "threads",
        "load_average",
        "load_average_after",
        "device",
    } <= set(env)
    assert env["settings"]["tokens"] == [8, 32] and env["threads"] == threads + 1


def test_too_big_for_memory_is_a_row_with_its_reason():
    needed = 3 * 32**2 * 2 * 2 * 4 / 2**30
    table, samples = timing.measure(TINY | {"repeats": 3, "memory_gib": needed * 0.99})
    skipped = table[table["reason"] != ""]
    assert set(skipped[["variant", "n"]].itertuples(index=False, name=None)) == {("naive", 32)}
    assert len(skipped) == 2  # forward and train
    assert skipped["reason"].str.contains("memory_gib").all()
    assert skipped[["median_seconds", "min_seconds", "peak_mib"]].isna().all(axis=None)
    assert (skipped["repeats"] == 0).all()
    assert samples.query("variant == 'naive' and n == 32").empty
    assert table.loc[table["reason"] == "", "median_seconds"].notna().all()


def test_written_out_model_is_named_and_estimated_so():
    settings = TINY | {"model": MODEL | {"fused_attn": False}, "memory_gib": 1e-9}
    table, _ = timing.measure(settings | {"patch_sizes": [7]})
    model = table[table["what"] == "model"]
    assert set(model["variant"]) == {"naive"} and model["reason"].str.contains("GiB").all()


def attention_call(n, fused, train=False):
    module = MultiHeadSelfAttention(16, 2, fused_attn=fused)
    return timing._call(module, torch.randn(1, n, 16), "train" if train else "forward")


@pytest.mark.parametrize("train", [False, True])
def test_written_out_memory_is_quadratic_and_fused_is_not(train):
    peaks = {
        fused: [peak_mib(attention_call(n, fused, train), CPU) for n in (512, 2048)]
        for fused in (False, True)
    }
    assert 12 < peaks[False][1] / peaks[False][0] < 16.5  # 4 x the tokens
    assert 2 < peaks[True][1] / peaks[True][0] < 6
    two_matrices = 2 * 2 * 2048**2 * 4 / 2**20  # logits and weights of two heads
    assert peaks[False][1] > two_matrices > 5 * peaks[True][1]


def test_peak_counts_what_is_alive_together():
    def apart():
        for _ in range(10):
            torch.empty(2**18)  # 1 MiB each, one at a time

    def together():
        return [torch.empty(2**18) for _ in range(10)]

    assert peak_mib(apart, CPU) == pytest.approx(1, abs=0.01)
    assert peak_mib(together, CPU) == pytest.approx(10, abs=0.01)


FAULTS = """
import torch
from vitrail.meters import keep_freed_memory, page_faults

def faults(mebibytes=64):  # 64 MiB are 16384 pages
    before = page_faults()
    torch.ones(mebibytes * 2**18)
    return page_faults() - before

torch.set_num_threads(1)
fresh = [faults() for _ in range(3)]
assert keep_freed_memory()
for _ in range(4):
    faults(128)  # freed at once, and the next ones find their place in there
print(min(fresh), sorted(faults() for _ in range(5))[2])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library has this")
def test_kept_memory_is_not_fetched_again():
    # In a process of its own: what the C library was told cannot be taken back.
    command = [sys.executable, "-c", FAULTS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    fresh, kept = map(int, done.stdout.split())
    assert fresh > 20 * (kept + 1)


def test_seconds_are_those_of_one_call():
    calls = []

    def call():
        calls.append(time.sleep(0.004))

    assert 0.004 <= seconds_per_call(call, 5, CPU) < 0.02
    assert len(calls) == 5


def test_forward_and_train_do_what_they_say(monkeypatch):
    module = MultiHeadSelfAttention(16, 2)
    x = torch.randn(1, 5, 16)
    out = timing._call(module, x, "forward")()
    assert out.is_inference() and torch.equal(out, module(x))
    gradients = timing._call(module, x, "train")()
    assert [g.shape for g in gradients] == [x.shape, *(p.shape for p in module.parameters())]
    assert all(parameter.grad is None for parameter in module.parameters())


def cell(name, repeats, order, inner=1):
    return timing.Cell(
        name, "fused", "forward", 1, 1, 1, None, 1, 1, 0, lambda: order.append(name), inner, repeats
    )


def test_cells_take_turns_and_few_repeats_are_spread():
    order = []
    cells = [cell("a", 6, order), cell("b", 3, order), cell("c", 0, order), cell("d", 6, order)]
    timing._sample(cells, CPU)
    assert "".join(order) == "adabd" * 3
    assert [len(one.seconds) for one in cells] == [6, 3, 0, 6]

    order = []
    timing._sample([cell("short", 1, order, inner=4)], CPU)
    assert len(order) == 1 + 4  # one untimed call first


def test_short_calls_are_repeated_and_slow_cells_get_fewer_samples():
    settings = read_settings(TINY | {"repeats": 9, "min_seconds": 0.01, "max_seconds": 0.04})
    short, slow = cell("short", 0, []), cell("slow", 0, [])
    slow.call = lambda: time.sleep(0.03)
    for one in (short, slow):
        timing._prepare(one, settings, CPU)
    assert short.inner > 100 and short.repeats >= 3
    assert (slow.inner, slow.repeats) == (1, 3)
    settings["max_seconds"] = 60.0
    timing._prepare(slow, settings, CPU)
    assert slow.repeats == 9


def test_a_machine_without_enough_memory_gives_a_reason_and_a_bug_does_not():
    settings = read_settings(TINY)
    huge, broken = cell("huge", 0, []), cell("broken", 0, [])
    huge.call = lambda: torch.empty(10**15)
    broken.call = lambda: torch.ones(2) @ torch.ones(3)
    timing._prepare(huge, settings, CPU)
    assert "out of memory" in huge.reason and huge.repeats == 0
    with pytest.raises(RuntimeError, match="size"):
        timing._prepare(broken, settings, CPU)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"token": [17]}, "unknown key 'token'"),
        ({"tokens": []}, "timing.tokens"),
        ({"tokens": [17, 0]}, "timing.tokens"),
        ({"tokens": 17}, "timing.tokens"),
        ({"widths": [True]}, "timing.widths"),
        ({"heads": 3}, "timing.heads 3 does not divide 8"),
        ({"repeats": 2}, "timing.repeats"),
        ({"threads": 0}, "timing.threads"),
        ({"max_seconds": float("inf")}, "timing.max_seconds"),
        ({"min_seconds": "fast"}, "timing.min_seconds"),
        ({"keep_memory": 1}, "timing.keep_memory"),
        ({"device": "tpu"}, "timing.device"),
        ({"patch_sizes": [5]}, "5 of timing.patch_sizes"),
        ({"model": [1]}, "timing.model"),
        ({"model": MODEL | {"width": 16}}, "timing.model: unknown key 'width'"),
        ({"model": MODEL | {"num_heads": 3}}, "num_heads 3"),
        ({"model": MODEL | {"act": "swish"}}, "swish"),
    ],
)
def test_a_wrong_setting_is_named(change, named):
    with pytest.raises(VitrailError) as caught:
        timing.measure(TINY | change)
    assert named in str(caught.value)


def test_params_that_are_not_json(monkeypatch, tmp_path):
    with pytest.raises(VitrailError, match="--params"):
        run_main(monkeypatch, "{tokens}", tmp_path)
    with pytest.raises(VitrailError, match="mapping"):
        run_main(monkeypatch, "[1]", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="the machine has a CUDA device")
def test_a_device_that_is_not_there():
    with pytest.raises(VitrailError, match=r"device is 'cuda'"):
        timing.measure(TINY | {"device": "cuda"})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_same_table_on_cuda():
    table, _ = timing.measure(TINY | {"device": "cuda"})
    assert (table["reason"] == "").all()
    assert (table["median_seconds"] > 0).all() and (table["peak_mib"] > 0).all()


def test_defaults_are_valid_and_settings_are_read_only_once():
    settings = read_settings({})
    assert read_settings(settings) == settings
    assert settings["tokens"] == DEFAULTS["tokens"]
    assert "patch_size" not in settings["model"]
    assert read_settings({"model": {"patch_size": 7}}) == settings
    assert np.all(np.diff(settings["patch_sizes"]) > 0)
