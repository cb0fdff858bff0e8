# MNIST and, for the arms that ask for them, ImageNet weights.


rule mnist:
    input:
        code=source("data.py", "download.py", "web.py"),
    output:
        # `update` keeps files that a user has put there.
        update(MNIST),
    log:
        "results/logs/mnist.log",
    conda:
        ENVIRONMENT
    params:
        folder=verbatim(shlex.quote(config["data"]["folder"])),
    message:
        "Fetch MNIST and check it"
    shell:
        "python -m vitrail.download --folder {params.folder} --out results/data > {log} 2>&1"


PRETRAINED = sorted(
    {
        (arm.settings["timm_model"], arm.settings["pretrained"])
        for arm in PLAN.arms.values()
        if arm.settings.get("pretrained")
    }
)
if len(PRETRAINED) > 1:
    raise WorkflowError(
        "config: the arms ask for more than one set of ImageNet weights "
        f"({', '.join('.'.join(pair) for pair in PRETRAINED)}); keep one timm_model and pretrained"
    )


rule imagenet_weights:
    input:
        code=source("weights.py", "checkpoint.py", "web.py"),
        # A file put there later is seen by the next run.
        local=sorted(map(str, Path("results/weights").glob("*"))),
    output:
        f"{RESULTS}/{STUDY}/weights.json",
    log:
        f"{RESULTS}/{STUDY}/logs/imagenet_weights.log",
    conda:
        ENVIRONMENT
    params:
        model=PRETRAINED[0][0] if PRETRAINED else "vit_small_patch16_224",
        tag=PRETRAINED[0][1] if PRETRAINED else "augreg_in1k",
        path=verbatim(shlex.quote(config["pretrained"]["path"])),
    message:
        "Look for ImageNet weights"
    shell:
        "python -m vitrail.weights --model {params.model} --tag {params.tag}"
        " --path {params.path} --out {output} > {log} 2>&1"
