"""The network of a run as MLflow serves it; MLflow runs this file when a model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

BATCH = 500  # images at once, so that a long input needs little memory


class Served(PythonModel):
    """Images to logits, in float32, with the pixels normalised as in training."""

    def load_context(self, context: Any) -> None:
        """Read settings and weights from the model's artifacts."""
        from vitrail.files import read_json
        from vitrail.networks import load_run

        run = Path(context.artifacts["run"])
        settings = read_json(run / "config.json")["settings"]
        self.mean, self.std = settings["pixel_mean"], settings["pixel_std"]
        self.network = load_run(run)

    def predict(self, context: Any, model_input: np.ndarray, params: Any = None) -> np.ndarray:
        """float32 images (B, 1, 28, 28), pixels in [0, 1] -> float32 logits (B, 10)."""
        import torch

        images = torch.from_numpy(np.array(model_input, dtype=np.float32))
        normalised = images.sub_(self.mean).div_(self.std)
        with torch.inference_mode():
            parts = [self.network(part) for part in normalised.split(BATCH)]
        return torch.cat(parts).numpy()


set_model(Served())
