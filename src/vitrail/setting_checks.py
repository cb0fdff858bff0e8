"""The settings of an arm as the config asks for them: do they make sense together?

What a schema cannot say. Imports neither torch nor pandas, because Snakemake reads it each
time it parses the workflow.
"""

from __future__ import annotations

from vitrail.errors import VitrailError
from vitrail.settings import (
    IMAGE_SIZE,
    MODEL_FIELDS,
    NEUTRAL,
    NUM_CLASSES,
    TRAINING_FIELDS,
    Settings,
    canonical,
    images_of,
    in_full,
    labels_of,
    relevant,
    steps_of,
    takes_patches,
)


def checked(defaults: Settings, own: Settings, where: str) -> Settings:
    """The resolved settings of an arm, after the checks that a schema cannot make."""
    settings = {key: canonical(value) for key, value in {**NEUTRAL, **defaults, **own}.items()}
    kind = settings["model"]
    for field in own:
        if field not in TRAINING_FIELDS + MODEL_FIELDS[kind]:
            raise VitrailError(
                f"config: {where}: the key {field} has no effect on model {kind!r}; leave it out"
            )
    if kind == "timm" and not settings["timm_model"]:
        raise VitrailError(f"config: {where}: timm_model must name a model of timm")
    for field in ("patch_size", "img_size"):
        if kind == "timm" and field in own and not takes_patches(settings):
            raise VitrailError(
                f"config: {where}: timm_model {settings['timm_model']!r} is taken for a CNN, and "
                f"{field} has no effect on it; leave {field} out"
            )
    if takes_patches(settings):
        _check_patches(settings, where)
    if kind == "vit":
        _check_vit(settings, where)
    if settings["grow"] != "none":
        _check_growth(settings, where)
    if settings["tune"] == "head":
        _check_probe(settings, where)
    if settings["optimizer"] == "muon" and not takes_patches(settings):
        name = settings["timm_model"] if kind == "timm" else kind
        raise VitrailError(
            f"config: {where}: optimizer muon works on the matrices of transformer blocks, and "
            f"model {name!r} has none; choose adamw or sgd"
        )
    _check_labels(settings, where)
    if steps_of(settings) < settings["evaluations"]:
        asked = (
            f"steps {settings['steps']} are"
            if settings["steps"]
            else f"epochs {settings['epochs']} of {images_of(settings)} images make "
            f"{steps_of(settings)} steps of batch_size {settings['batch_size']},"
        )
        raise VitrailError(
            f"config: {where}: {asked} fewer than evaluations {settings['evaluations']}; lower "
            "evaluations or train for longer"
        )
    if settings["early_stopping"] and settings["evaluations"] < 2:
        raise VitrailError(
            f"config: {where}: early_stopping chooses among the evaluations, and there is one; "
            "raise evaluations"
        )
    if settings["train_size"] + settings["validation"] > 60_000:
        raise VitrailError(
            f"config: {where}: train_size {settings['train_size']} and data.validation "
            f"{settings['validation']} together exceed the 60,000 training images of MNIST"
        )
    if kind == "vit" and settings["head_dim"] * settings["num_heads"] == settings["embed_dim"]:
        settings["head_dim"] = 0  # the usual width, asked for in other words
    return relevant(settings)


def _check_labels(settings: Settings, where: str) -> None:
    """There are so many labels, and they fill a batch."""
    budget, size = settings.get("label_budget", 0), settings["train_size"]
    # In the smallest class of MNIST (5) are 9 % of the images.
    if budget and budget != size and (budget % NUM_CLASSES or budget > 0.85 * size):
        raise VitrailError(
            f"config: {where}: label_budget {budget} is shared equally by the {NUM_CLASSES} "
            f"classes: choose a multiple of {NUM_CLASSES} up to {int(0.85 * size):,}, or all "
            f"{size:,} of train_size"
        )
    if settings["batch_size"] > images_of(settings):
        held = ", of which early_stopping holds a fifth out" if settings["early_stopping"] else ""
        key = "label_budget" if budget else "train_size"
        raise VitrailError(
            f"config: {where}: batch_size {settings['batch_size']} is larger than "
            f"{key} {labels_of(settings)}{held}"
        )
    if settings["start"] and (settings.get("pretrained") or settings["grow"] != "none"):
        other = "grow" if settings["grow"] != "none" else "pretrained"
        raise VitrailError(
            f"config: {where}: start and {other} both say what the network starts from; leave "
            "one of them out"
        )


def _check_patches(settings: Settings, where: str) -> None:
    """Patches tile the image that the network sees.

    timm itself takes 28 pixels with patches of 16, and then reads one patch, a third of them.
    """
    patch, side = settings["patch_size"], IMAGE_SIZE
    remedy = "choose 1, 2, 4, 7, 14 or 28"
    if settings["model"] == "timm":
        side = in_full(settings)["img_size"]
        remedy = "choose one that does, or set img_size to a multiple of it"
    if side % patch:
        raise VitrailError(
            f"config: {where}: patch_size {patch} does not divide the image size {side}; {remedy}"
        )


def _check_vit(settings: Settings, where: str) -> None:
    width, heads = settings["embed_dim"], settings["num_heads"]
    if not settings["head_dim"] and width % heads:
        raise VitrailError(
            f"config: {where}: num_heads {heads} does not divide embed_dim {width}; "
            "each head gets embed_dim / num_heads columns unless head_dim is set"
        )
    step = {"sinusoidal": 2, "sinusoidal_2d": 4}.get(settings["pos_embed"], 1)
    if width % step:
        raise VitrailError(
            f"config: {where}: embed_dim {width} must be a multiple of {step} "
            f"for pos_embed {settings['pos_embed']}"
        )
    if settings["global_pool"] == "token" and not settings["class_token"]:
        raise VitrailError(
            f"config: {where}: global_pool token reads the class token; set class_token to true"
        )
    if settings["patch_embed"] != "linear" and settings["patch_size"] == 1:
        raise VitrailError(
            f"config: {where}: patch_embed {settings['patch_embed']} has nothing to halve at "
            "patch_size 1; choose 2, 4, 7, 14 or 28, or set patch_embed to linear"
        )
    if settings["attention"] == "window":
        _check_windows(settings, where)
    if settings["attention"] == "lsa" and _fewest_tokens(settings) < 2:
        raise VitrailError(
            f"config: {where}: attention lsa needs two tokens, for none attends to itself; set "
            "class_token to true, or make patch_size or patch_drop_rate smaller"
        )
    if settings["init"] == "mimetic" and settings["head_dim"] * heads not in (0, width):
        raise VitrailError(
            f"config: {where}: init mimetic needs heads that share the width; set head_dim to 0 or "
            "the arm to null"
        )


def _fewest_tokens(settings: Settings) -> int:
    """Tokens that the blocks see in training, in its first half where patches are larger then."""
    patch = settings["patch_size"] * (2 if settings["grow"] == "patch_size" else 1)
    patches = (IMAGE_SIZE // patch) ** 2
    kept = max(1, int(patches * (1 - settings["patch_drop_rate"])))
    return kept + int(settings["class_token"])


def _check_windows(settings: Settings, where: str) -> None:
    """Windows tile the patches and leave no place for a token that is none."""
    side = IMAGE_SIZE // settings["patch_size"]
    if settings["class_token"]:
        raise VitrailError(
            f"config: {where}: attention window has no place for a class token; set class_token "
            "to false and global_pool to avg or seq"
        )
    if settings["patch_drop_rate"]:
        raise VitrailError(
            f"config: {where}: attention window needs all patches; set patch_drop_rate to 0"
        )
    if side % settings["window_size"]:
        raise VitrailError(
            f"config: {where}: window_size {settings['window_size']} does not divide the "
            f"{side} x {side} patches of patch_size {settings['patch_size']}"
        )


def _check_growth(settings: Settings, where: str) -> None:
    """The network of the first half of the steps exists, and the whole one follows from it."""
    grow, depth, patch = settings["grow"], settings["depth"], settings["patch_size"]
    windows = settings["attention"] == "window"
    if settings["model"] != "vit":
        raise VitrailError(
            f"config: {where}: grow {grow} works on model vit, not {settings['model']!r}; "
            "set grow to none"
        )
    # The stack repeats the first half, so every second block is shifted if that half is even.
    step = 4 if windows else 2
    if grow == "depth" and depth % step:
        raise VitrailError(
            f"config: {where}: grow depth starts with half of the blocks; depth {depth} must be "
            f"a multiple of {step}, or set the arm to null"
        )
    if grow == "patch_size" and IMAGE_SIZE % (2 * patch):
        raise VitrailError(
            f"config: {where}: grow patch_size starts with patches of {2 * patch} pixels, twice "
            f"patch_size {patch}, which do not divide {IMAGE_SIZE}; choose 1, 2, 7 or 14, or "
            "set the arm to null"
        )
    if grow == "patch_size" and settings["pos_embed"] not in ("learned", "none"):
        raise VitrailError(
            f"config: {where}: grow patch_size resamples learned positions; set pos_embed to "
            "learned or none, or the arm to null"
        )
    if grow == "patch_size" and settings["patch_embed"] != "linear":
        raise VitrailError(
            f"config: {where}: grow patch_size resamples linear patches; set patch_embed to "
            "linear, or the arm to null"
        )
    if grow == "patch_size" and windows and IMAGE_SIZE // (2 * patch) % settings["window_size"]:
        raise VitrailError(
            f"config: {where}: window_size {settings['window_size']} does not divide the patches "
            f"of {2 * patch} pixels that grow patch_size starts with"
        )


def _check_probe(settings: Settings, where: str) -> None:
    """With tune head only the head learns: nothing else may ask for the trunk's gradients."""
    said = f"config: {where}: tune head trains the head alone"
    if settings["model"] in ("mlp", "logistic"):
        raise VitrailError(
            f"{said}, and model {settings['model']!r} has no trunk below one; set tune to all"
        )
    if settings["optimizer"] == "muon":
        raise VitrailError(
            f"{said}, and optimizer muon is for the matrices of the blocks; choose adamw or sgd"
        )
    if settings["grow"] != "none":
        raise VitrailError(f"{said}, so nothing can grow; set grow to none or tune to all")
    if settings["teacher"] or settings["early_stopping"]:
        other = "teacher" if settings["teacher"] else "early_stopping"
        raise VitrailError(
            f"{said} on features that are computed once, which {other} does not see; leave "
            f"{other} out or set tune to all"
        )
    if settings["patch_drop_rate"]:
        raise VitrailError(
            f"{said}, and a trunk that is not trained drops no patches; set patch_drop_rate to 0"
        )
