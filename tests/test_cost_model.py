"""The cost model against what PyTorch counts, holds and saves in the real networks."""

from collections import Counter

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from vitrail.cost_model import PARTS, Cost, total, training_macs, vit_costs
from vitrail.model import VisionTransformer

SMALL = {"img_size": 28, "patch_size": 7, "in_chans": 1, "num_classes": 10} | {
    "embed_dim": 32,
    "depth": 2,
    "num_heads": 4,
    "mlp_ratio": 2.0,
}
# The study's switches, each off its default at least once, and sizes that share no factor.
OURS = {
    "base": {},
    "pixels": {"patch_size": 1, "depth": 1},
    "wide mlp, no qkv bias": {"patch_size": 4, "mlp_ratio": 4.0, "qkv_bias": False},
    "own heads": {"num_heads": 3, "head_dim": 10},
    "relu, sinusoids": {"act": "relu", "pos_embed": "sinusoidal_2d"},
    "post-norm": {"norm": "post", "patch_size": 14, "pos_embed": "none"},
    "mean": {"global_pool": "avg", "class_token": False},
    "mean beside a class token": {"global_pool": "avg"},
    "post-norm mean": {"norm": "post", "global_pool": "avg"},
    "seqpool": {"global_pool": "seq", "class_token": False},
    "no head": {"num_classes": 0},
    "oblong": {"img_size": (28, 56), "patch_size": (7, 14), "in_chans": 3},
}
TIMM = [  # name, embed_dim, num_heads, img_size, patch_size
    ("vit_tiny_patch16_224", 192, 3, 224, 16),
    ("vit_tiny_patch16_224", 192, 3, 28, 4),
    ("vit_small_patch16_224", 384, 6, 28, 14),
    ("vit_small_patch16_224", 384, 6, 28, 7),
    ("vit_base_patch16_224", 768, 12, 28, 7),
    ("vit_base_patch32_224", 768, 12, 224, 32),
]


def made(changes, fused=False, device="meta"):
    """(our network, an image, its costs) of some changes to SMALL."""
    settings = SMALL | changes
    with torch.device(device):
        network = VisionTransformer(**settings, fused_attn=fused)
        image = torch.empty(1, settings["in_chans"], *network.patch_embed.img_size)
    return network, image, vit_costs(**settings, fused_attn=fused)


def from_timm(name, embed_dim, heads, img_size, patch_size, fused=False, device="meta"):
    timm = pytest.importorskip("timm")
    with torch.device(device):
        sizes = {"img_size": img_size, "patch_size": patch_size, "in_chans": 1}
        network = timm.create_model(name, **sizes, num_classes=10)
        image = torch.empty(1, 1, img_size, img_size)
    for block in network.blocks:
        block.attn.fused_attn = fused
    sizes |= {"embed_dim": embed_dim, "depth": 12, "num_heads": heads, "num_classes": 10}
    return network, image, vit_costs(**sizes, fused_attn=fused)


def part_of(name):
    """The part that a module or parameter of either network belongs to, by its name."""
    for mark, part in {
        "patch_embed": "patch_embedding",
        "cls_token": "positions",
        "pos_embed": "positions",
        "norm": "norms",
        "attn.qkv": "qkv",
        "attn.proj": "projection",
        "attn.products": "products",
        "mlp": "mlp",
        "attention_pool": "pooling",
        "head": "head",
    }.items():
        if mark in name:
            return part
    raise AssertionError(f"{name} belongs to no part")


def macs_by_part(network, image):
    """MACs of a forward pass, as FlopCounterMode books them on the modules of the network."""
    # It does not know the fused kernel of the CPU; the written-out form has the same products.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(image)
    prefix = type(network).__name__ + "."
    own = {
        name.removeprefix(prefix): sum(found.values()) // 2
        for name, found in counter.get_flop_counts().items()
        if name.startswith(prefix)
    }
    parts = Counter()
    for name, macs in own.items():
        inside = [other for other in own if other.startswith(f"{name}.")]
        direct = [o for o in inside if not any(o.startswith(f"{p}.") for p in inside)]
        rest = macs - sum(own[other] for other in direct)
        if rest:  # the products stand in no layer of their own
            parts[part_of(f"{name}.products" if name.endswith("attn") else name)] += rest
    assert sum(parts.values()) == counter.get_total_flops() // 2
    return parts


def expected_macs(costs):
    """The formula, with the two products of attention together as the counter has them."""
    parts = Counter({part: cost.macs for part, cost in costs.items() if cost.macs})
    parts["products"] = parts.pop("attention_scores") + parts.pop("attention_values")
    return parts


def parameters_by_part(network):
    parts = Counter()
    for name, parameter in network.named_parameters():
        parts[part_of(name)] += parameter.numel()
    return parts


def kept_bytes(network, image):
    """Bytes of all that autograd saves in a forward pass: whole storages, each once."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    found = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = network(image)  # alive, so that no address is given out twice
    assert out.requires_grad
    return sum(found.values())


@pytest.mark.parametrize("changes", OURS.values(), ids=OURS)
def test_macs_and_parameters_of_every_part_of_ours(changes):
    network, image, costs = made(changes)
    assert macs_by_part(network, image) == expected_macs(costs)
    found = parameters_by_part(network)
    assert found == Counter({part: c.parameters for part, c in costs.items() if c.parameters})


@pytest.mark.parametrize("model", TIMM, ids=lambda model: f"{model[0]} {model[3]}/{model[4]}")
def test_macs_and_parameters_of_every_part_of_timms(model):
    network, image, costs = from_timm(*model)
    assert macs_by_part(network, image) == expected_macs(costs)
    found = parameters_by_part(network)
    assert found == Counter({part: c.parameters for part, c in costs.items() if c.parameters})


@pytest.mark.parametrize("fused", [False, True], ids=["written out", "fused"])
@pytest.mark.parametrize("changes", OURS.values(), ids=OURS)
def test_activations_are_what_autograd_saves_in_ours(changes, fused):
    network, image, costs = made(changes, fused, "cpu")
    assert kept_bytes(network, image) == total(costs).activations


@pytest.mark.parametrize("fused", [False, True], ids=["written out", "fused"])
@pytest.mark.parametrize("model", TIMM[1:4], ids=lambda model: f"{model[0]} {model[3]}/{model[4]}")
def test_activations_are_what_autograd_saves_in_timms(model, fused):
    network, image, costs = from_timm(*model, fused, "cpu")
    assert kept_bytes(network, image) == total(costs).activations


@pytest.mark.parametrize("changes", [{}, {"patch_size": 4, "depth": 3}])
def test_images_of_a_batch_keep_as_much_but_for_the_copies(changes):
    for fused in (True, False):
        network, image, costs = made(changes, fused, "cpu")
        settings = SMALL | changes
        n = (28 // settings["patch_size"]) ** 2 + 1
        less = 0 if fused else 4 * settings["depth"] * n * settings["embed_dim"]
        found = kept_bytes(network, image.expand(3, -1, -1, -1).contiguous())
        assert found == 3 * (total(costs).activations - less)


@pytest.mark.parametrize("changes", OURS.values(), ids=OURS)
def test_training_macs_of_ours(changes):
    network, image, costs = made(changes)

    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(image).sum().backward()
    assert counter.get_total_flops() == 2 * training_macs(costs)


def test_training_macs_of_timms():
    network, image, costs = from_timm(*TIMM[3])
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(image).sum().backward()
    assert counter.get_total_flops() == 2 * training_macs(costs)


def test_a_fused_kernel_computes_the_scores_again():
    """By PyTorch's own count of the fused kernels, which goes by shapes."""
    shape = (1, 4, 17, 8)
    forward = sdpa_flop_count(shape, shape, shape)
    backward = sdpa_backward_flop_count(shape, shape, shape, shape)
    costs = {
        "patch_embedding": Cost(),
        "attention_scores": Cost(macs=forward // 4),
        "attention_values": Cost(macs=forward // 4),
    }
    assert 2 * training_macs(costs, recomputed=True) == forward + backward
    assert 2 * training_macs(costs) == 3 * forward


def test_the_table_of_weights_is_what_grows_with_the_square():
    """From 785 tokens, patches of one pixel, to four times as many."""
    grown = {}
    for fused in (False, True):
        short, long = (
            total(vit_costs(**SMALL | {"img_size": side, "patch_size": 1}, fused_attn=fused))
            for side in (28, 56)
        )
        grown[fused] = long.activations / short.activations
    assert grown[False] > 14 and grown[True] < 4.1


def test_parts_have_names_and_images_that_do_not_fit_are_refused():
    assert list(vit_costs(**SMALL)) == list(PARTS)
    with pytest.raises(ValueError, match="patch_size 5 does not divide img_size 28"):
        vit_costs(**SMALL | {"patch_size": 5})
