"""Names that the questions use themselves, so that no experiment may have them."""

from __future__ import annotations

# Figures, tables, numbers and data that a question makes itself; no experiment has such a name.
RESERVED_EVERYWHERE = {"claims", "experiments", "table"}
RESERVED: dict[str, set[str]] = {
    "q1_patch_embedding": {"filter_findings", "filters", "patch_sizes", "patches"},
    "q2_mlp": {
        "embed_dim", "gelu", "hidden", "in_reach", "input_findings", "mlp_ratio", "negative",
        "parameters", "share", "tanh_gap",
    },
    "q3_self_attention": {
        "entropy", "found_networks", "found_order", "found_random", "maps", "scale", "shown",
        "tv_images",
    },
    "q4_multi_head": {
        "architecture", "attention", "distance", "distance_high", "distance_low",
        "distance_uniform", "found_distance", "found_heads", "found_proofs", "found_rollout",
        "grid", "maps", "rollout",
    },
    "q5_block": {"block", "curves", "token_norms"},
    "q6_vit": {
        "architecture", "base", "base_runs", "cost", "effects", "errors", "patch_shuffle",
        "position_example", "position_findings", "position_size", "positions",
    },
    "q7_complexity": {
        "base_macs", "block_words", "costs", "crossover",
        "crossovers", "exponents", "fused_memory", "fused_memory_exponent", "fused_speedup",
        "gains", "goal", "hardware", "kinds", "kinds_longest", "kinds_near", "linear_crossover",
        "linear_speedup", "linear_time", "longest", "memory", "mlp_ratio", "model", "naive_memory",
        "naive_memory_exponent", "naive_words", "products_speedup",
        "reduction", "reduction_pictures", "reference", "share", "shares", "slope_at_base",
        "speedup_at_reference", "time", "timed_width", "tokens", "tokens_per_call",
        "training_factor", "ways", "ways_inference", "ways_step", "ways_training", "weights_mib",
        "width", "window_size", "window_speedup", "window_time", "window_tokens",
    },
    "q8_transfer": {
        "adaptation", "budget", "cost", "input_cost", "inputs", "inputs_cnn", "label_budgets",
        "label_curves", "label_gains", "learning_curves", "mcnemar", "weights",
    },
}  # fmt: skip
