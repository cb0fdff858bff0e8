# Pretraining without ImageNet: a network learns from images made by formula, or from
# unlabelled digits; arms with `start` go on from its weights.


rule pretrain:
    input:
        data=MNIST,
        code=CODE_PRETRAIN,
    output:
        expand(
            f"{RESULTS}/{STUDY}/pretraining/{{{{start}}}}/{{name}}",
            name=["config.json", "env.json", "summary.json"],
        ),
    log:
        f"{RESULTS}/{STUDY}/logs/pretrain/{{start}}.log",
    # Trainings wait for it.
    priority: study_jobs.PRIORITIES["pretrain"]
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=GPU,
        gpu_percent=lambda wildcards: study_gpus.planned(
            config["device"], [PLAN.pretrainings[wildcards.start]["model"]]
        ),
        mem_mb=memory(2000),
    params:
        settings=lambda wildcards: as_json(PLAN.pretrainings[wildcards.start]),
        folder=lambda wildcards, output: Path(output[0]).parent,
        device=config["device"],
    message:
        "Pretrain {wildcards.start}"
    shell:
        "python -m vitrail.pretraining --settings {params.settings:q} --data results/data"
        " --device {params.device} --out {params.folder} > {log} 2>&1"
