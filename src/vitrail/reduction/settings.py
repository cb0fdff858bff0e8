"""What the reduction step may be told; see config/default.yaml and the schema.

Imports no torch: Snakemake reads it each time it parses the workflow.
"""

from __future__ import annotations

from typing import Any

DEFAULTS: dict[str, Any] = {
    "removed": [4, 8, 12, 16],  # r of ToMe and of the pruner: tokens that each block loses
    "targets": [75, 50],  # of LTMP, per cent of the MACs
    "class_targets": [50],  # the same with the class token's attention as importance
    "train_size": 55000,  # images that the thresholds see, each once
    "batch_size": 128,
    "merge_rate": 0.003,  # learning rate of the thresholds of merging
    "prune_rate": 0.001,  # and of pruning; the paper's is lower, for 23 times as many steps
    "images": 10000,  # of the test set that are classified
    "timed_images": 400,  # for the speed, taken from these
}
