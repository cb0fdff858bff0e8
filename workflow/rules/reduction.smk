# Q7's fewer tokens: thresholds are learned target by target, then all ways are compared.

CODE_REDUCTION = CODE_MODEL + source(
    "reduction/*.py", "train.py", "data.py", "analysis.py", "meters.py"
)


rule learn_thresholds:
    input:
        data=MNIST,
        run=SUBJECT_RUN,
        code=CODE_REDUCTION,
    output:
        f"{RESULTS}/{STUDY}/reduction/thresholds_{{importance}}_{{percent}}.json",
    log:
        f"{RESULTS}/{STUDY}/logs/thresholds_{{importance}}_{{percent}}.log",
    wildcard_constraints:
        importance="received|class",
        percent=r"\d+",
    # The comparison waits for the last of them.
    priority: study_jobs.PRIORITIES["learn_thresholds"]
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=GPU,
        gpu_percent=part_of_gpu([SUBJECT.arm_id]),
        mem_mb=memory(2000),
    params:
        run=lambda wildcards, input: Path(input.run).parent,
        settings=as_text(REDUCTION),
        device=config["device"],
    message:
        "Learn thresholds that keep {wildcards.percent} % of the MACs ({wildcards.importance})"
    shell:
        "python -m vitrail.reduction learn --run {params.run} --data results/data"
        " --percent {wildcards.percent} --importance {wildcards.importance} --params {params.settings:q}"
        " --device {params.device} --out {output} > {log} 2>&1"


rule reduce_tokens:
    input:
        data=MNIST,
        run=SUBJECT_RUN,
        thresholds=[
            *expand(
                rules.learn_thresholds.output,
                importance="received",
                percent=REDUCTION["targets"],
            ),
            *expand(
                rules.learn_thresholds.output,
                importance="class",
                percent=REDUCTION["class_targets"],
            ),
        ],
        code=CODE_REDUCTION,
    output:
        table=f"{RESULTS}/{STUDY}/reduction/table.csv",
        pictures=f"{RESULTS}/{STUDY}/reduction/pictures.npz",
        sums=expand(
            f"{RESULTS}/{STUDY}/reduction/{{file}}.sha256",
            file=["table.csv", "pictures.npz"],
        ),
        facts=f"{RESULTS}/{STUDY}/reduction/env.json",
    log:
        f"{RESULTS}/{STUDY}/logs/reduction.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=GPU,
        gpu_percent=WHOLE_GPU,  # it measures speed
        mem_mb=memory(2000),
    params:
        run=lambda wildcards, input: Path(input.run).parent,
        settings=as_text(REDUCTION),
        device=config["device"],
    message:
        "Compare ways to reduce the tokens"
    shell:
        "python -m vitrail.reduction compare --run {params.run} --data results/data"
        " --thresholds {input.thresholds} --params {params.settings:q}"
        " --device {params.device} --out {output.table} --pictures {output.pictures}"
        " --log-env {output.facts} > {log} 2>&1"
