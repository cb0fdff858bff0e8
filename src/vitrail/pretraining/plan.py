"""Which pretrainings a study needs: a recipe of the config on the network of an arm.

Imports neither torch nor pandas, because Snakemake reads it each time it parses the workflow.
"""

from __future__ import annotations

from typing import Any

from vitrail.errors import VitrailError
from vitrail.pretraining.recipe import read_recipe
from vitrail.settings import MODEL_FIELDS, Settings, canonical, digest, slug

Recipe = dict[str, Any]
# What the trunk is and sees, beside the fields of its kind of model.
SHARED_FIELDS = ("model", "pixel_mean", "pixel_std", "precision")


def pretraining_of(settings: Settings, recipes: dict[str, Recipe], where: str) -> Settings:
    """The settings of the pretraining that an arm starts from: its recipe and its network.

    Arms with the same network and recipe share a pretraining, whatever they do afterwards.

    Raises:
        VitrailError: the config has no such recipe, or it does not work on the network.
    """
    name = settings["start"]
    if name not in recipes or recipes[name] is None:
        known = ", ".join(key for key, recipe in recipes.items() if recipe is not None) or "none"
        raise VitrailError(
            f"config: {where}: start names the pretraining {name!r}, but the recipes under "
            f"pretraining are: {known}"
        )
    kind = settings["model"]
    if kind in ("mlp", "logistic"):
        raise VitrailError(f"config: {where}: start works on model vit, cnn or timm, not {kind!r}")
    fields = [*SHARED_FIELDS, *MODEL_FIELDS[kind]]
    model = {field: settings[field] for field in fields if field in settings}
    try:
        recipe = read_recipe(recipes[name], model)
    except VitrailError as error:
        raise VitrailError(f"config: {where}: start {name}: {error}") from error
    found = {"recipe": {key: canonical(value) for key, value in recipe.items()}, "model": model}
    if recipe["images"] == "digits":  # those that the arm may train on, and no others
        found["train_size"] = settings["train_size"]
    return found


def pretraining_id(name: str, pretraining: Settings) -> str:
    """A readable slug and a hash of exactly what decides the pretrained weights."""
    return f"{name}-{slug(pretraining['model'])}-{digest(pretraining)}"


class Starts:
    """The pretrainings that the arms start from, collected as the arms are read."""

    def __init__(self, recipes: dict[str, Any]) -> None:
        self.recipes = recipes
        self.found: dict[str, Settings] = {}

    def id_of(self, settings: Settings, where: str) -> str:
        """The id of the pretraining of an arm, which is added to those found."""
        pretraining = pretraining_of(settings, self.recipes, where)
        identity = pretraining_id(settings["start"], pretraining)
        self.found[identity] = pretraining
        return identity
