"""Token reduction: ToMe, pruning and LTMP against their definitions and against each other."""

import pytest
import torch

from vitrail.efficiency import count_macs, vit_macs
from vitrail.errors import VitrailError
from vitrail.model import VisionTransformer
from vitrail.reduction.compare import COLUMNS, compare, entries, pictured
from vitrail.reduction.cost import cost_of
from vitrail.reduction.evaluate import speeds
from vitrail.reduction.learn import learn
from vitrail.reduction.network import attend, check, reduced
from vitrail.reduction.thresholds import Thresholds, forward, mask, masked_softmax
from vitrail.reduction.tokens import Tokens, keep, matched, merge, start
from vitrail.reduction.ways import Merge, Prune, Seen, Threshold, most_important

SIZES = {"img_size": 28, "patch_size": 4, "in_chans": 1, "num_classes": 10} | {
    "embed_dim": 32,
    "depth": 3,
    "num_heads": 2,
    "mlp_ratio": 2.0,
}


@pytest.fixture
def vit():
    """A small network with positions so large that its tokens differ."""
    torch.manual_seed(0)
    network = VisionTransformer(**SIZES, pos_embed_std=1.0).eval()
    torch.nn.init.normal_(network.head.weight)
    return network


@pytest.fixture
def images():
    torch.manual_seed(1)
    return torch.randn(8, 1, 28, 28)


def test_without_a_way_it_is_the_network_itself(vit, images):
    passed = reduced(vit, images, None, follow=True)
    torch.testing.assert_close(passed.logits, vit(images), rtol=1e-5, atol=1e-5)
    assert (passed.attended == 50).all()
    assert (passed.left == 50).all()
    assert (passed.owners == torch.arange(50)).all()


def test_matching_finds_the_most_similar_pair_and_spares_the_class_token():
    metric = torch.eye(6).repeat(1, 1, 1)
    metric[0, 4] = metric[0, 1] + 0.1 * metric[0, 3]  # a source beside the target at place 1
    metric[0, 0] = metric[0, 3]  # the class token, a twin of the target at place 3
    best, into = matched(metric, torch.ones(1, 6, dtype=torch.bool))
    assert best[0, 0] == -torch.inf
    assert best[0].argmax() == 2  # the source at place 4
    assert into[0, 2] == 0  # the first of the targets 1, 3, 5
    alive = torch.tensor([[True, False, True, True, True, True]])
    best, into = matched(metric, alive)
    assert into[0, 2] == 1  # its second choice, as the first is gone


def test_merging_is_the_mean_weighted_by_size():
    x = torch.tensor([[[9.0], [1.0], [4.0], [7.0], [2.0]]])
    tokens = start(x, follow=True)
    tokens.size = torch.tensor([[1.0, 3.0, 1.0, 1.0, 2.0]])
    chosen = torch.tensor([[False, True, True]])  # places 2 and 4
    merged = merge(tokens, chosen, torch.tensor([[0, 0, 0]]))  # into place 1
    assert merged.x[0, 1, 0] == pytest.approx((3 * 1 + 1 * 4 + 2 * 2) / 6)
    assert merged.size[0, 1] == 6
    assert merged.alive.tolist() == [[True, True, False, True, False]]
    left = keep(merged, merged.alive)
    assert left.x[0, :, 0].tolist() == pytest.approx([9, 11 / 6, 7])
    assert left.size.sum() == tokens.size.sum()  # nothing is lost
    assert left.owner.tolist() == [[0, 1, 1, 2, 1]]


def test_dropping_keeps_the_order_and_pads_to_the_longest():
    x = torch.arange(10.0).view(2, 5, 1)
    tokens = start(x, follow=True)
    alive = torch.tensor([[1, 0, 1, 1, 0], [1, 0, 0, 0, 1]]).bool()
    left = keep(tokens, alive)
    assert left.x.shape == (2, 3, 1)
    assert left.x[0, :, 0].tolist() == [0, 2, 3]
    assert left.x[1, :2, 0].tolist() == [5, 9]
    assert left.counts.tolist() == [3, 2]
    assert left.owner.tolist() == [[0, -1, 1, 2, -1], [0, -1, -1, -1, 1]]


def test_proportional_attention_is_attention_to_copies(vit):
    """A token of size three weighs as much as three equal tokens."""
    block = vit.blocks[0]
    torch.manual_seed(2)
    x = torch.randn(1, 5, 32)
    once = start(x)
    once.size[0, 2] = 3
    copies = torch.cat([x, x[:, 2:3], x[:, 2:3]], dim=1)
    with torch.no_grad():
        change, _ = attend(block, once)
        wanted = block.attn(block.norm1(copies))
    torch.testing.assert_close(change, wanted[:, :5], rtol=1e-5, atol=1e-5)


def test_padding_changes_nothing(vit, images):
    """An image alone gives the same as beside one that keeps more tokens."""
    way = Threshold(merge=(0.4, 0.4, 0.4), prune=(0.015, 0.018, 0.02))
    together = reduced(vit, images, way)
    assert len(together.left[-1].unique()) > 1  # so there was padding
    for position in range(len(images)):
        alone = reduced(vit, images[position : position + 1], way)
        torch.testing.assert_close(alone.logits[0], together.logits[position], rtol=1e-4, atol=1e-4)
        assert (alone.left[:, 0] == together.left[:, position]).all()


@pytest.mark.parametrize("r", [0, 3, 8, 30])
def test_tome_and_pruning_remove_r_tokens_per_block(vit, images, r):
    for way in (Merge(r), Prune(r)):
        passed = reduced(vit, images, way, follow=True)
        n = 50
        for left in passed.left:
            sources = (n + 1) // 2 - 1  # without the class token
            n -= min(r, sources) if isinstance(way, Merge) else min(r, n - 1)
            assert (left == n).all()
        assert (passed.owners[-1][:, 0] == 0).all()  # the class token is still there
        if isinstance(way, Merge):
            assert (passed.owners >= 0).all()  # merged, not lost
        elif r:
            assert (passed.owners[-1] < 0).sum(dim=1).tolist() == [50 - n] * len(images)


def test_pruning_takes_what_the_class_token_looks_at_least():
    tokens = start(torch.randn(1, 5, 4))
    looks = torch.tensor([[0.0, 0.4, 0.1, 0.3, 0.2]])
    left = Prune(2)(0, tokens, Seen(torch.zeros(1, 5, 4), looks, looks))
    torch.testing.assert_close(left.x, tokens.x[:, [0, 1, 3]])


def test_a_merged_token_is_as_important_as_its_most_important_part():
    importance = torch.tensor([[0.5, 0.1, 0.4, 0.2, 0.05]])
    chosen, into = torch.tensor([[False, True, True]]), torch.tensor([[0, 0, 1]])
    found = most_important(importance, chosen, into)
    assert found[0].tolist() == pytest.approx([0.5, 0.4, 0.4, 0.2, 0.05])


def test_the_received_attention_is_that_of_the_definition(vit):
    """s_i = 1 / (h n) times the sum over heads and rows of the weights (LTMP)."""
    x = torch.randn(2, 50, 32)
    block = vit.blocks[0]
    with torch.no_grad():
        weights = block.attn.weights(block.norm1(x))
        _, seen = attend(block, start(x))
    torch.testing.assert_close(seen.received, weights.mean(dim=(1, 2)), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(seen.from_class, weights[:, :, 0].mean(dim=1), rtol=1e-5, atol=1e-6)


def test_masks_do_the_same_as_dropping(vit, images):
    """What is learned with masks is what inference does, token by token."""
    thresholds = Thresholds(3)
    with torch.no_grad():
        thresholds.merge.copy_(torch.tensor([0.5, 0.4, 0.3]))
        thresholds.prune.copy_(torch.tensor([0.014, 0.018, 0.022]))
        logits, attended, left = forward(vit, thresholds, images)
    passed = reduced(vit, images, thresholds.as_way())
    assert passed.left[-1].float().mean() < 30
    torch.testing.assert_close(attended, passed.attended.float())
    torch.testing.assert_close(left, passed.left.float())
    torch.testing.assert_close(logits, passed.logits, rtol=1e-3, atol=1e-3)


def test_masked_softmax_is_the_softmax_of_what_is_alive():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 5, 5)
    logits[:, :, :, 3] = 200.0  # a dead token far above the rest does no harm
    alive = torch.tensor([[1.0, 1, 0, 0, 1], [1, 0, 1, 0, 1]])
    weights = masked_softmax(logits, alive)
    wanted = logits.masked_fill(alive[:, None, None] == 0, -torch.inf).softmax(-1)
    torch.testing.assert_close(weights, wanted, rtol=1e-5, atol=1e-5)


def test_the_mask_is_hard_forward_and_soft_backward():
    score = torch.tensor([0.2, 0.5, 0.9])
    threshold = torch.tensor(0.5, requires_grad=True)
    hard = mask(score, threshold, 0.1)
    assert hard.tolist() == [0, 0, 1]
    hard.sum().backward()
    soft = torch.sigmoid((score - 0.5) / 0.1)
    assert threshold.grad.item() == pytest.approx(-(soft * (1 - soft)).sum().item() / 0.1)


def test_the_cost_is_that_of_the_exact_formula_and_of_a_counter(vit, images):
    cost = cost_of(vit)
    whole = vit_macs(**SIZES)["total"]
    assert cost.whole == whole
    assert count_macs(vit, images) == len(images) * whole
    full = torch.full((3, 2), 50.0)
    assert cost.macs(full, full, matches=False).tolist() == [whole, whole]
    # Three blocks that compare 25 sources with 25 targets by keys of width 16.
    assert cost.macs(full, full, matches=True).tolist() == [whole + 3 * 25 * 25 * 16] * 2


def test_the_counter_sees_what_a_reduced_pass_multiplies(vit, images):
    """PyTorch's counter on a real reduced pass: even counts make the formula exact."""
    from torch.utils.flop_counter import FlopCounterMode

    for way in (None, Prune(10), Merge(10)):
        with FlopCounterMode(display=False) as flops:
            passed = reduced(vit, images, way)
        matches = way is not None and way.matches
        macs = cost_of(vit).macs(passed.attended.double(), passed.left.double(), matches=matches)
        assert flops.get_total_flops() // 2 == macs.sum().item()


def test_learning_reaches_its_target_and_leaves_the_network_alone(vit):
    torch.manual_seed(3)
    data, labels = torch.randn(960, 1, 28, 28), torch.randint(10, (960,))
    before = {name: value.clone() for name, value in vit.state_dict().items()}
    thresholds, log = learn(
        vit, data, labels, 0.6, batch_size=16, merge_rate=2e-2, prune_rate=2e-3, seed=0
    )
    again, _ = learn(
        vit, data, labels, 0.6, batch_size=16, merge_rate=2e-2, prune_rate=2e-3, seed=0
    )
    assert sum(p.numel() for p in thresholds.parameters()) == 2 * 3
    assert thresholds.as_way() == again.as_way()
    assert log[0]["share"] > 0.95
    assert log[-1]["share"] == pytest.approx(0.6, abs=0.05)
    for name, value in vit.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_comparison_has_a_row_for_everything_asked(vit, images):
    labels = reduced(vit, images, None).logits.argmax(dim=1)
    labels[0] = (labels[0] + 1) % 10  # one error
    asked = entries([4, 8], {("ltmp", 50): Threshold((0.4,) * 3, (0.02,) * 3)})
    table, right = compare(vit, asked, images, labels, timed=8)
    assert right.shape == (len(asked), len(images))
    assert (right.sum(axis=1) == len(images) - table["test_errors"]).all()
    assert list(table.columns) == COLUMNS
    assert [*zip(table["way"], table["setting"], strict=True)] == [
        ("none", 0), ("tome", 4), ("tome", 8), ("prune", 4), ("prune", 8), ("ltmp", 50),
    ]  # fmt: skip
    first = table.iloc[0]
    assert first["macs_ratio"] == 1
    assert first["test_errors"] == 1
    assert first["difference"] == 0
    assert (table["images_per_second"] > 0).all()
    assert (table["images_per_second_one"] > 0).all()
    errors = table["test_errors"] - first["test_errors"]
    assert (errors == table["only_plain"] - table["only_reduced"]).all()
    found = pictured(vit, table, asked, images[:2])
    assert found["ltmp_owners"].shape == (3, 2, 50)
    assert set(found) >= {"tome_setting", "prune_predicted"}


def test_an_image_may_lose_all_but_its_class_token(vit, images):
    for way in (Threshold((2.0,) * 3, (1.0,) * 3), Threshold((-1.0,) * 3, (1.0,) * 3)):
        assert (reduced(vit, images, way).left == 1).all()
    few = Merge(30)
    deep = reduced(VisionTransformer(**SIZES | {"depth": 8}).eval(), images, few)
    assert deep.left[-1].tolist() == [2] * len(images)


def test_speeds_are_of_interleaved_rounds(vit, images):
    """Half of the work takes less time, whatever else the machine does."""
    few, many = speeds(vit, [Prune(1), Prune(24)], images.repeat(16, 1, 1, 1), batch=128)
    assert many > few


def test_all_tokens_are_timed_without_what_follows_them(vit, images, monkeypatch):
    calls = []
    forward = vit.forward
    monkeypatch.setattr(vit, "forward", lambda part: calls.append(len(part)) or forward(part))
    speeds(vit, [Prune(8)], images, batch=4)
    assert not calls
    speeds(vit, [None], images, batch=4)
    assert calls == [4] * (1 + 2 * 5)  # a warm-up and five rounds of two batches


def test_networks_that_cannot_be_reduced_are_refused():
    mean = VisionTransformer(**SIZES, class_token=False, global_pool="avg")
    with pytest.raises(VitrailError, match="global_pool token"):
        check(mean)
    with pytest.raises(VitrailError, match="norm pre"):
        check(VisionTransformer(**SIZES, norm="post"))


def test_tokens_count_what_is_alive():
    alive = torch.tensor([[True, False], [True, True]])
    assert Tokens(torch.zeros(2, 2, 1), torch.ones(2, 2), alive).counts.tolist() == [1, 2]
