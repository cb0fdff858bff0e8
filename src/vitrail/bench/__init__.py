"""How fast we are beside others: `make bench`.

Training and inference of one ViT, by our own code and by the libraries that one would take
otherwise, in one process on one core. All take turns, so that a slow spell of the machine hits
them alike, and ratios are taken within a round. What is measured and how: docs/benchmarks.md.

    networks.py   the same ViT by ours, timm, vit-pytorch and Hugging Face's transformers
    loops.py      the loops that they are trained in: ours, the tutorial's, transformers' Trainer
    contestants.py  who takes part: which network in which loop, or in inference
    turns.py      the clock, the turns, the peak of the core
    table.py      the rows; CSV, and Markdown for README.md and docs/benchmarks.md

Nothing here imports torch before it measures.
"""
