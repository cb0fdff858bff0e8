"""Fewer tokens on the way through a trained ViT: merged, pruned, or both (Q7).

`tokens` holds what is left of an image between two blocks, `ways` decides what goes,
`network` runs a `VisionTransformer` with one of them, `cost` counts what that costs,
`thresholds` and `learn` find the thresholds of LTMP.
"""
