"""Each erratum of the report (report/errata.qmd) is shown by a test here.

pytest tests/test_errata.py
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from vitrail.augment import augmented
from vitrail.data import Mnist, split
from vitrail.efficiency import (
    block_macs,
    count_macs,
    count_parameters,
    local_slope,
    quadratic_share,
    vit_macs,
)
from vitrail.model import (
    Block,
    Mlp,
    MultiHeadSelfAttention,
    PatchEmbed,
    SelfAttention,
    VisionTransformer,
    sinusoidal,
    sinusoidal_1d,
)
from vitrail.model.attention import attend, attention_weights
from vitrail.questions.positions.embedding import example_markdown, worked_example
from vitrail.runs import expand

ROOT = Path(__file__).parents[1]
SMALL: dict[str, Any] = {
    "img_size": 28, "patch_size": 7, "in_chans": 1, "num_classes": 10,
    "embed_dim": 32, "depth": 2, "num_heads": 4, "mlp_ratio": 2,
}  # fmt: skip


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def small(**changes: Any) -> VisionTransformer:
    return VisionTransformer(**{**SMALL, **changes}).eval()


def shuffled(images: torch.Tensor) -> torch.Tensor:
    """The same patches of 7 pixels in another order."""
    cut = images.unfold(2, 7, 7).unfold(3, 7, 7).reshape(len(images), 16, 7, 7)
    cut = cut[:, torch.randperm(16)].reshape(len(images), 4, 4, 7, 7)
    return cut.permute(0, 1, 3, 2, 4).reshape(len(images), 1, 28, 28)


# --- Introduction


def test_name_is_vision_transformer() -> None:
    texts = [*(ROOT / "report").glob("*.qmd"), ROOT / "README.md", ROOT / "CITATION.cff"]
    texts += (ROOT / "src").rglob("*.py")
    assert "Vision Transformer" in (ROOT / "report" / "report.qmd").read_text(encoding="utf-8")
    wrong = re.compile(r"visual\s+transformer", re.IGNORECASE)
    for file in texts:
        if file.name != "errata.qmd":
            assert not wrong.search(file.read_text(encoding="utf-8")), file


def test_sources_are_named() -> None:
    works = {
        "vaswani2017": ("Attention Is All You Need", "Neural Information Processing Systems"),
        "dosovitskiy2021": ("An Image is Worth 16x16 Words", "Learning Representations"),
        "devlin2019": (
            "Pre-training of Deep Bidirectional Transformers",
            "North American Chapter of the Association for Computational Linguistics",
        ),
        "zhuang2023": (
            "A Survey on Efficient Training of Transformers",
            "International Joint Conference on Artificial Intelligence",
        ),
        "bonnaerens2023": ("Learned Thresholds Token Merging", "Transactions on Machine Learning"),
    }
    report = ROOT / "report"
    entries = (report / "references.bib").read_text(encoding="utf-8").split("\n@")
    chapters = "\n".join(file.read_text(encoding="utf-8") for file in report.glob("q*.qmd"))
    for key, (title, venue) in works.items():
        (entry,) = [entry for entry in entries if f"{{{key}," in entry.split("\n")[0]]
        words = " ".join(entry.split())
        assert title in words
        assert venue in words
        assert re.search(rf"@{key}\b", chapters), f"no chapter cites {key}"


# --- Q1 to Q6


def test_positional_example() -> None:
    table = sinusoidal_1d(6, 4).numpy()
    np.testing.assert_allclose(table[0], [0, 1, 0, 1], atol=1e-6)
    np.testing.assert_allclose(table[1], [0.84147, 0.54030, 0.0099998, 0.99995], atol=1e-5)
    # The lab report's i = 0, 0, 1, 1 counts pairs: 2i/d is 0 and 2/4. It took i/d.
    i, k = np.array([0, 0, 1, 1]), np.arange(6)[:, None]
    wave = np.array([0, 1, 0, 1]) * np.pi / 2  # a cosine is a sine that is ahead
    np.testing.assert_allclose(table, np.sin(k / 10000 ** (2 * i / 4) + wave), atol=1e-6)
    slip = np.sin(k / 10000 ** (i / 4) + wave)
    np.testing.assert_allclose(slip[1], [0.84147, 0.54030, 0.09983, 0.99500], atol=1e-5)
    assert 2 * np.pi * 10000 ** (2 / 4) == pytest.approx(628.3, abs=0.1)
    assert 2 * np.pi * 10000 ** (1 / 4) == pytest.approx(62.8, abs=0.1)
    turned = sinusoidal(torch.tensor([0.0, 628.3185, 62.8319]), 4).numpy()
    np.testing.assert_allclose(turned[1, 2:], turned[0, 2:], atol=1e-5)  # a whole wave
    assert abs(turned[2, 2:] - turned[0, 2:]).max() > 0.5  # a tenth of one
    # What the report prints.
    example, worst = worked_example()
    (row,) = [
        line for line in example_markdown(example).splitlines() if line.startswith("| $P(1)$")
    ]
    cells = [cell.strip() for cell in row.strip("|").split("|")][1:]
    assert cells == ["0.84147", "0.54030", "0.01000", "0.99995", "0.09983", "0.99500"]
    assert worst == pytest.approx(abs(table - slip).max(), abs=1e-6)
    assert worst == pytest.approx(0.429, abs=5e-4)


def test_positions_index_pairs() -> None:
    d, k = 8, 3
    row = sinusoidal_1d(k + 1, d)[k].numpy()
    for column in range(d):  # the first line of the lab report, where i is the column
        wave, power = (np.cos, column - 1) if column % 2 else (np.sin, column)
        assert row[column] == pytest.approx(wave(k / 10000 ** (power / d)), abs=1e-6)
    for i in range(d // 2):
        angle = k / 10000 ** (2 * i / d)
        assert row[2 * i] == pytest.approx(np.sin(angle), abs=1e-6)
        assert row[2 * i + 1] == pytest.approx(np.cos(angle), abs=1e-6)


def test_attention_is_equivariant() -> None:
    attention = MultiHeadSelfAttention(32, 4).eval()
    x, order = torch.randn(2, 9, 32), torch.randperm(9)
    out = attention(x)
    torch.testing.assert_close(attention(x[:, order]), out[:, order], atol=1e-5, rtol=0)
    assert (attention(x[:, order]) - out).abs().max() > 1e-3
    torch.testing.assert_close(
        attention(x[:, order]).mean(dim=1), out.mean(dim=1), atol=1e-5, rtol=0
    )


def test_positions_carry_the_layout() -> None:
    images = torch.rand(4, 1, 28, 28)
    mixed = shuffled(images)
    bag = small(pos_embed="none")
    torch.testing.assert_close(bag(images), bag(mixed), atol=1e-5, rtol=0)
    ordered = small(pos_embed="sinusoidal_2d")
    assert (ordered(images) - ordered(mixed)).abs().max() > 1e-3


def test_output_projection_is_there() -> None:
    attention = SelfAttention(32).eval()
    x = torch.randn(2, 5, 32)
    before = attend(*attention.qkv(x).chunk(3, dim=-1))
    torch.testing.assert_close(attention(x), before @ attention.proj.weight.T + attention.proj.bias)
    assert tuple(attention.proj.weight.shape) == (32, 32)


def test_scale_keeps_the_variance() -> None:
    """Of the model's own logits: the logarithms of a row of weights, but for a constant."""
    query, key = torch.randn(2, 500, 64, dtype=torch.float64)
    assert (query @ key.T).var(dim=-1).mean() == pytest.approx(64, rel=0.1)
    assert attention_weights(query, key).log().var(dim=-1).mean() == pytest.approx(1, rel=0.1)


def test_two_projections_are_one() -> None:
    """Heads that project Q, K and V once more are heads that project X, with other weights."""
    twice = MultiHeadSelfAttention(32, 4, qkv_bias=False).double()
    outer = torch.randn(3, 32, 32, dtype=torch.float64)  # W_Q, W_K, W_V of the lab report
    x = torch.randn(2, 5, 32, dtype=torch.float64)
    inner = twice.qkv.weight.view(3, 4, 8, 32)  # (Q, K or V; head; row; column)
    heads = []
    for head in range(4):
        query, key, value = ((x @ outer[i].T) @ inner[i, head].T for i in range(3))
        heads.append(attend(query, key, value))
    expected = twice.proj(torch.cat(heads, dim=-1))
    once = MultiHeadSelfAttention(32, 4, qkv_bias=False).double()
    once.load_state_dict(twice.state_dict())
    with torch.no_grad():
        merged = [twice.qkv.weight.chunk(3)[i] @ outer[i] for i in range(3)]
        once.qkv.weight.copy_(torch.cat(merged))
    torch.testing.assert_close(once(x), expected)


def test_output_matrix_is_learned() -> None:
    """W^O takes h d_v columns to D and is trained; with a zero in its place nothing gets out."""
    attention = MultiHeadSelfAttention(32, num_heads=3, head_dim=16)
    matrix = attention.proj.weight
    assert tuple(matrix.T.shape) == (3 * 16, 32)
    optimizer = torch.optim.SGD(attention.parameters(), lr=0.1)
    x, before = torch.randn(2, 5, 32), matrix.detach().clone()
    attention(x).square().mean().backward()
    assert matrix.grad is not None
    assert matrix.grad.abs().min() > 0
    optimizer.step()
    assert (matrix != before).all()
    with torch.no_grad():
        assert (attention(x) - attention.proj.bias).abs().max() > 1e-2
        matrix.zero_()
        assert torch.equal(attention(x), attention.proj.bias.expand(2, 5, 32))


def test_every_head_reads_all_of_x() -> None:
    """Each of its matrices is D x D/h, and each column of X changes what each head makes of it."""
    attention = MultiHeadSelfAttention(32, 4)
    x = torch.randn(2, 5, 32)
    parts = attention.split_heads(x)  # queries, keys, values
    weights, biases = attention.qkv.weight.chunk(3), attention.qkv.bias.chunk(3)
    for part, weight, bias in zip(parts, weights, biases, strict=True):
        for head, matrix in enumerate(weight.T.split(8, dim=1)):
            assert tuple(matrix.shape) == (32, 8)
            own = x @ matrix + bias.split(8)[head]
            torch.testing.assert_close(part[:, head], own, atol=1e-5, rtol=0)
    for column in range(32):
        changed = x.clone()
        changed[..., column] += 1
        for now, part in zip(attention.split_heads(changed), parts, strict=True):
            assert (now - part).abs().amax(dim=(0, 2, 3)).min() > 1e-3
    with pytest.raises(ValueError, match="num_heads 5"):
        MultiHeadSelfAttention(32, 5)
    assert MultiHeadSelfAttention(32, 1).head_dim == 32


def test_self_attention_has_one_input() -> None:
    """PyTorch's module has three; with X for all of them it is ours, with another it is not."""
    ours = MultiHeadSelfAttention(32, 4)
    general = nn.MultiheadAttention(32, 4, batch_first=True)
    general.in_proj_weight, general.in_proj_bias = ours.qkv.weight, ours.qkv.bias
    general.out_proj = ours.proj  # type: ignore[assignment]
    assert list(inspect.signature(ours.forward).parameters) == ["x"]
    x, y = torch.randn(2, 3, 5, 32)
    out = ours(x)
    torch.testing.assert_close(general(x, x, x)[0], out, atol=1e-5, rtol=0)
    assert (general(x, y, y)[0] - out).abs().max() > 1e-2


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_mlp_reads_the_attention(norm: Any) -> None:
    block = Block(32, 4, norm=norm).eval()
    seen: list[torch.Tensor] = []
    block.mlp.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.randn(1, 5, 32)
    block(x)
    with torch.no_grad():  # silence the attention: the MLP must notice
        block.attn.proj.weight.zero_()
        block.attn.proj.bias.zero_()
    block(x)
    assert (seen[0] - seen[1]).abs().max() > 1e-3


def test_pre_norm_has_a_last_norm() -> None:
    """Which the head's input goes through; a post-norm block ends with one of its own."""
    model, images = small(), torch.rand(3, 1, 28, 28)
    normed = model(images)
    model.norm = nn.Identity()
    assert (model(images) - normed).abs().max() > 0.1 * normed.abs().max()
    post = small(norm="post")
    last = post.norm(post.blocks(post.embed(images)))
    torch.testing.assert_close(last.mean(dim=-1), torch.zeros(3, 17), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        last.var(dim=-1, unbiased=False), torch.ones(3, 17), atol=1e-3, rtol=0
    )


def test_mlp_works_on_every_token() -> None:
    """The head, a norm and a single linear layer, on the one at position 0 after the last block."""
    model = small()
    shapes: list[tuple[int, ...]] = []
    for block in model.blocks:
        block.mlp.register_forward_hook(lambda _, inputs, out: shapes.append(tuple(out.shape)))
    seen: list[torch.Tensor] = []
    model.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.rand(3, 1, 28, 28)
    logits = model(images)
    assert shapes == [(3, 17, 32)] * 2
    assert isinstance(model.head, nn.Linear)
    last = model.blocks(model.embed(images))[:, 0]
    normed = nn.functional.layer_norm(last, (32,), eps=model.norm.eps)  # as it starts: no scale
    torch.testing.assert_close(seen[0], normed)
    torch.testing.assert_close(logits, normed @ model.head.weight.T + model.head.bias)


def test_class_token_starts_at_zero() -> None:
    model = small()
    assert isinstance(model.cls_token, nn.Parameter)
    assert tuple(model.cls_token.shape) == (1, 1, 32)  # as wide as the embedding of a patch
    assert model.cls_token.abs().max() < 1e-4
    tokens = model.embed(torch.rand(3, 1, 28, 28))
    assert torch.equal(tokens[0, 0], tokens[2, 0])
    for block in model.blocks:  # not embedded again: each block adds to what was there
        after = block(tokens)
        assert (after[:, 0] - tokens[:, 0]).abs().max() > 1e-3
        tokens = after
    assert (tokens[0, 0] - tokens[2, 0]).abs().max() > 1e-3  # by now it knows its image


def test_patch_embedding_is_linear() -> None:
    model = small()
    embed = model.patch_embed
    images = torch.rand(2, 1, 28, 28)
    cut = nn.functional.unfold(images, kernel_size=7, stride=7).transpose(1, 2)
    expected = cut @ embed.proj.weight.T + embed.proj.bias
    torch.testing.assert_close(embed(images), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(embed.as_convolution(images), expected, atol=1e-6, rtol=0)
    first = model.cls_token.expand(2, 1, 32)
    z0 = torch.cat([first, expected], dim=1) + model.pos_embed
    torch.testing.assert_close(model.embed(images), z0, atol=1e-6, rtol=0)


def test_word_embeddings_are_learned() -> None:
    """A row of the table is a word, all zeros but a one, times a matrix; both it and E learn."""
    table, words = nn.Embedding(12, 8), torch.tensor([3, 7, 3])
    coded = nn.functional.one_hot(words, 12).float()
    torch.testing.assert_close(table(words), coded @ table.weight)
    table(words).sum().backward()
    assert table.weight.grad is not None
    learnt = table.weight.grad.abs().sum(dim=1).nonzero().flatten()
    assert learnt.tolist() == [3, 7]
    model = small()
    model(torch.rand(2, 1, 28, 28))[:, 0].sum().backward()
    assert model.patch_embed.proj.weight.grad.abs().min() > 0


def test_widths_of_the_mlp() -> None:
    """W1 is D x rD, W2 is rD x D, both with biases; each token passes alone."""
    mlp = Block(32, 4, mlp_ratio=4).mlp
    w1, w2 = mlp.fc1.weight.T, mlp.fc2.weight.T
    assert (tuple(w1.shape), tuple(w2.shape)) == ((32, 128), (128, 32))
    assert (tuple(mlp.fc1.bias.shape), tuple(mlp.fc2.bias.shape)) == ((128,), (32,))
    x = torch.randn(2, 5, 32)
    out = mlp(x)
    for image in range(2):
        for token in range(5):
            hidden = x[image, token] @ w1 + mlp.fc1.bias
            hidden = hidden * torch.distributions.Normal(0.0, 1.0).cdf(hidden)
            torch.testing.assert_close(out[image, token], hidden @ w2 + mlp.fc2.bias)


def test_gelu_is_the_exact_one() -> None:
    """The form with tanh is another function, by less than 5e-4."""
    x = torch.linspace(-6, 6, 12001, dtype=torch.float64)
    exact = x * torch.distributions.Normal(0.0, 1.0).cdf(x)
    torch.testing.assert_close(Mlp(4).act(x), exact, atol=1e-7, rtol=0)
    gap = (nn.GELU(approximate="tanh")(x) - exact).abs().max().item()
    assert 4e-4 < gap < 5e-4


def test_a_kernel_knows_neighbours() -> None:
    """What a convolution is built with and self-attention is not; what only attention has."""
    convolution = nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular", bias=False)
    attention = SelfAttention(8).eval()

    def convolve(tokens: torch.Tensor) -> torch.Tensor:  # 6 x 6 tokens, (B, 36, 8)
        grid = tokens.transpose(1, 2).reshape(-1, 8, 6, 6)
        return convolution(grid).flatten(2).transpose(1, 2)

    x = torch.randn(1, 36, 8)
    changed = x.clone()
    changed[0, 0] += 1
    # Locality: nine outputs of the convolution see a token, all outputs of attention do.
    for layer, reached in ((convolve, 9), (attention, 36)):
        assert ((layer(changed) - layer(x)).abs().amax(dim=-1) > 1e-6).sum() == reached

    # Both move with a shifted image; attention with any other order of the patches, too.
    shift = torch.arange(36).view(6, 6).roll((1, 2), (0, 1)).flatten()
    order = torch.randperm(36)
    for layer in (convolve, attention):
        torch.testing.assert_close(layer(x[:, shift]), layer(x)[:, shift], atol=1e-5, rtol=0)
    torch.testing.assert_close(attention(x[:, order]), attention(x)[:, order], atol=1e-5, rtol=0)
    assert (convolve(x[:, order]) - convolve(x)[:, order]).abs().max() > 0.1

    # The weights of attention depend on the content; a kernel is the same for every image.
    y = torch.randn(1, 36, 8)
    assert (attention.weights(x) - attention.weights(y)).abs().max() > 1e-2
    torch.testing.assert_close(convolve(x + y), convolve(x) + convolve(y), atol=1e-5, rtol=0)
    gap = attention(x + y) - attention(x) - attention(y) + attention.proj.bias
    assert gap.abs().max() > 1e-2


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "sinusoidal_2d", "none"])
def test_positions_fix_the_length(positions: Any) -> None:
    """Blocks take any number of tokens; a table of positions has rows for those it was made for."""
    model = small(pos_embed=positions)
    model.patch_embed = PatchEmbed(35, 7, 1, 32)  # 25 patches in place of 16
    images = torch.rand(2, 1, 35, 35)
    if positions == "none":
        assert model(images).shape == (2, 10)
    else:
        with pytest.raises(RuntimeError, match=r"tensor a \(26\) must match .* tensor b \(17\)"):
            model(images)


@pytest.mark.parametrize("r", [0, 2, 4])
def test_cost_of_weights_is_linear(r: int) -> None:
    """Counted, not computed: layers with weights are linear in n, the two products quadratic.

    The products are the larger part beyond (2 + r) d tokens; r = 0 is attention alone.
    """
    d = 16
    layer = Block(d, 4, r) if r else MultiHeadSelfAttention(d, 4)
    linear = [module for module in layer.modules() if isinstance(module, nn.Linear)]

    def counted(n: int) -> tuple[int, int]:
        weights = sum(count_macs(one, torch.zeros(1, n, one.in_features)) for one in linear)
        return weights, count_macs(layer, torch.zeros(1, n, d)) - weights

    crossover = (2 + r) * d
    weights, products = counted(crossover)
    assert weights == products
    assert counted(2 * crossover) == (2 * weights, 4 * products)
    assert counted(crossover // 2) == (weights // 2, products // 4)


def test_hyperparameters_are_studied(config: dict[str, Any], mnist: Mnist) -> None:
    """Question c names embed_dim, patch_size and the number of blocks; two more are studied.

    And what the report says of the split and the preparation of the data is what is done.
    """
    questions = config["questions"]
    studied = questions["q6_vit"]["experiments"] | questions["q4_multi_head"]["experiments"]
    for name in ("embed_dim", "patch_size", "depth", "num_heads", "mlp_ratio"):
        values = studied[name]["vary"][name]
        assert len(set(values)) >= 3, name
        assert config["defaults"][name] in values, name
    report = ROOT / "report"
    chapter = (report / "q6_vit.qmd").read_text(encoding="utf-8")
    _, ablations = chapter.split("{#sec-q6-ablations}")
    assert "{{< include tables/q6_vit/experiments.md >}}" in ablations
    chapter = (report / "q4_multi_head.qmd").read_text(encoding="utf-8")
    assert "{{< include tables/q4_multi_head/experiments.md >}}" in chapter

    methods = " ".join((report / "methods.qmd").read_text(encoding="utf-8").split())
    assert "The last images of the training set are held out for validation" in methods
    parts = split(mnist, 100)
    np.testing.assert_array_equal(parts.train_images, mnist.train_images[:-100])
    np.testing.assert_array_equal(parts.validation_images, mnist.train_images[-100:])
    assert (
        "used as they are, unless an experiment says that it rotates, shifts or scales" in methods
    )
    for experiment in expand(config).experiments:
        said = all(word in experiment.description for word in ("rotate", "shift", "scale"))
        assert said or not any(augmented(member.arm.settings) for member in experiment.members)
    assert "means over seeds" in methods
    assert len(config["seeds"]) >= 3


# --- Q7 and Q8


def test_cost_has_two_parts() -> None:
    for n in (17, 197):
        counted = count_macs(Block(64, 4, mlp_ratio=2), torch.zeros(1, n, 64))
        assert counted == block_macs(n, 64, 2) == 8 * n * 64**2 + 2 * n**2 * 64
    assert quadratic_share(17, 64, 2) < 0.07
    assert local_slope(17, 64, 2) < 1.1


def test_what_fixes_the_input_size() -> None:
    """Every call and its reason: tests/test_timm_calls.py."""
    import timm

    from vitrail.questions.transfer.call_list import flatten_net, mean_net

    digits, larger = torch.zeros(1, 1, 28, 28), torch.zeros(1, 1, 32, 32)
    vit: Any = timm.create_model("vit_tiny_patch16_224", in_chans=1)
    with pytest.raises(AssertionError, match=r"Input height \(28\) doesn't match model \(224\)"):
        vit(digits)
    vit.patch_embed.strict_img_size = False
    with pytest.raises(RuntimeError, match=r"tensor a \(5\) must match .* tensor b \(197\)"):
        vit(larger)
    dynamic: Any = timm.create_model("vit_tiny_patch16_224", in_chans=1, dynamic_img_size=True)
    with pytest.raises(AssertionError, match=r"should be divisible by patch size \(16\)"):
        dynamic(digits)
    assert dynamic(larger).shape == (1, 1000), "it is only the way in that is fixed"

    cnn = timm.create_model("resnet18", in_chans=1).eval()
    assert cnn(digits).shape == cnn(larger).shape == (1, 1000)
    assert flatten_net()(digits).shape == mean_net()(digits).shape == (1, 10)
    assert mean_net()(larger).shape == (1, 10)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        flatten_net()(larger)
    with pytest.raises(RuntimeError, match="Kernel size can't be greater than actual input size"):
        timm.create_model("convnext_atto", in_chans=1)(digits)


def test_one_channel_is_the_sum_of_three() -> None:
    """On pretrained weights: tests/test_adaptation.py."""
    three = PatchEmbed(28, 7, 3, 32)
    one = PatchEmbed(28, 7, 1, 32)
    kernel = three.proj.weight
    with torch.no_grad():
        one.proj.weight.copy_(kernel.view(32, 3, -1).sum(1).view_as(one.proj.weight))
        one.proj.bias.copy_(three.proj.bias)
    gray = torch.randn(2, 1, 28, 28)
    torch.testing.assert_close(one(gray), three(gray.expand(-1, 3, -1, -1)), atol=1e-5, rtol=0)


def test_timm_rebuilds_what_depends_on_the_size() -> None:
    """Positions and patch kernel change with the size, the head with the classes, no more."""
    import timm

    model: Any = timm.create_model("vit_tiny_patch16_224")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.set_input_size(img_size=28, patch_size=4)
    after = model.state_dict()
    rebuilt = {key for key in before if before[key].shape != after[key].shape}
    assert rebuilt == {"pos_embed", "patch_embed.proj.weight"}
    assert all(torch.equal(before[key], after[key]) for key in set(before) - rebuilt)
    assert torch.equal(before["pos_embed"][:, 0], after["pos_embed"][:, 0])
    assert model(torch.zeros(1, 3, 28, 28)).shape == (1, 1000)
    # Enlarging instead is an order of magnitude dearer than patches of 7 at 28 pixels.
    vit = {"in_chans": 1, "num_classes": 10, "embed_dim": 384, "depth": 12}
    small, large = (
        vit_macs(img_size=side, patch_size=patch, **vit)["total"]
        for side, patch in ((28, 7), (224, 16))
    )
    assert large > 10 * small


def test_patch_16_drops_most_pixels() -> None:
    import timm

    model = timm.create_model("vit_tiny_patch16_224", img_size=28).eval()
    images = torch.rand(1, 3, 28, 28)
    changed = images.clone()
    changed[:, :, 16:, :] = 0
    changed[:, :, :, 16:] = 0
    assert torch.equal(model(images), model(changed))
    with pytest.raises(ValueError, match="patch_size"):
        VisionTransformer(img_size=28, patch_size=16)


def test_default_weights_saw_21k() -> None:
    import timm

    tag = timm.create_model("vit_small_patch16_224", pretrained=False).pretrained_cfg["tag"]
    assert tag == "augreg_in21k_ft_in1k"


def test_vit_s_runs_with_and_without_weights(config: dict[str, Any]) -> None:
    """The two arms of question c differ in what the network starts from."""
    plan = expand(config)
    arms = [plan.arms[arm].settings for arm in plan.arms_of("q8_transfer")]
    vit_s = [arm for arm in arms if str(arm.get("timm_model")).startswith("vit_small")]
    scratch = [arm for arm in vit_s if not arm["pretrained"]]
    pretrained = [arm for arm in vit_s if arm["pretrained"]]
    assert scratch
    assert pretrained
    fair = ("train_size", "validation", "epochs", "batch_size", "pixel_mean", "pixel_std")
    for arm in pretrained:
        assert arm["pretrained"].startswith(("augreg_in1k", "fb_in1k")), "the tag names the data"
        assert any(all(arm[key] == other[key] for key in fair) for other in scratch)


def test_cnn_is_as_large_as_vit(config: dict[str, Any]) -> None:
    """So a gap between the two is not a matter of too many parameters."""
    from vitrail.networks import build

    vit, cnn = (
        count_parameters(build({**config["defaults"], "model": model})) for model in ("vit", "cnn")
    )
    assert cnn == pytest.approx(vit, rel=0.1)
    compared = [
        {arm.get("settings", {}).get("model", "vit") for arm in experiment.get("arms", {}).values()}
        for experiment in config["questions"]["q6_vit"]["experiments"].values()
    ]
    assert any({"vit", "cnn"} <= models for models in compared)


def test_every_erratum_has_its_test_and_every_test_its_erratum() -> None:
    text = (ROOT / "report" / "errata.qmd").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", text))
    written = set(re.findall(r"^def (test_\w+)", Path(__file__).read_text(encoding="utf-8"), re.M))
    written.discard("test_every_erratum_has_its_test_and_every_test_its_erratum")
    assert named == written
