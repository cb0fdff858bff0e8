"""What one minute on two cores of a CPU is worth: the ViT from scratch, and a small CNN beside it.

A program of its own, ``make minute``: no step of the study reads what it makes. Two processes of
one thread share each batch and average their gradients (`together`); the clock of `train` covers
everything between the first batch and the last update.
"""
