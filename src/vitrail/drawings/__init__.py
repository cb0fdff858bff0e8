"""Drawings of the networks, made from an arm's settings: vectors in the house style.

Flow goes down on the left and up on the right. A colour stands for a role; grey parts
have no parameters. Imports no torch.
"""

from vitrail.drawings.architecture import vit
from vitrail.drawings.block import block
from vitrail.drawings.heads import multi_head

__all__ = ["block", "multi_head", "vit"]
