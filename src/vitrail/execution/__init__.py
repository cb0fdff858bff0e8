"""Q7: ways to compute the same network, each measured beside the plain one.

    python -m vitrail.execution --run results/default/runs/<run> --data results/data \\
        --out results/default/execution/ways.csv --log-env results/default/execution/env.json

writes one row per way (`table.COLUMNS`) and the machine. The plain form is the trained ViT
with attention written out, float32, one thread; every other row is one change from it:

- inference: the fused attention kernel, `torch.compile`, bf16, int8;
- training, forward and backward without an optimiser: the same, activation checkpointing,
  activations kept elsewhere (offloading), two processes with half of the batch each;
- tuning: LoRA on timm's ViT-S beside all of its weights.

`rounds` says how they take turns. A way that cannot be measured here keeps its row, with
the reason. The columns of a row:

name, group, mode      the way; inference, training or tuning; forward or train
baseline               name of the row of the same group that it is compared with
detail                 what was done, in a sentence
batch_size, rounds     images of a call, and calls timed
seconds_per_image, seconds_q25, seconds_q75
                       median and quartiles over the rounds
time_ratio, time_low, time_high
                       time over the baseline's in the same round: median of the rounds, 95 %
setup_seconds          once, before the first call: compiling, starting processes, importing
peak_mib, memory_ratio most memory of tensors alive together in a call (the weights, which
                       were there before it, not counted), and over the baseline's
trainable_parameters   how many numbers a training step changes
images, accuracy       test images and the share of them that is right
accuracy_points        accuracy minus the baseline's, in percentage points
logit_difference       largest difference of a logit to the baseline's (forward)
gradient_difference    largest difference of an entry of the gradient, as a share of the
                       largest entry of the baseline's (train)
reason                 why a figure is missing; empty where none is
"""
