# One job trains one arm: all its seeds, one after the other, on one thread.
# A run that cannot be run leaves the three files that say so, so the others are not
# declared here; summary.json is written last and holds their checksums.


rule train:
    input:
        data=MNIST,
        weights=weights_of,
        code=CODE_TRAIN,
    output:
        expand(
            f"{RESULTS}/{STUDY}/runs/{{{{arm}}}}-s{{seed}}/{{name}}",
            seed=PLAN.seeds,
            name=study_settings.RUN_FILES,
        ),
    log:
        f"{RESULTS}/{STUDY}/logs/train/{{arm}}.log",
    priority: 10
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=int(config["device"] == "cuda"),
        mem_mb=2000,
    params:
        settings=settings_of,
        seeds=" ".join(map(str, PLAN.seeds)),
        device=config["device"],
        runs=lambda wildcards, output: Path(output[0]).parents[1],
        weights=lambda wildcards, input: (
            f"--weights {input.weights}" if input.weights else ""
        ),
    message:
        "Train {wildcards.arm}"
    shell:
        "python -m vitrail.train --settings {params.settings:q} --seeds {params.seeds}"
        " --data results/data --runs {params.runs} --device {params.device}"
        " {params.weights} > {log} 2>&1"


# Snakemake's priorities are fixed numbers, so the longest trainings are a rule of their own:
# started last, one of them would keep a single core busy at the end.
if LONGEST:

    use rule train as train_longest with:
        wildcard_constraints:
            arm="|".join(map(re.escape, LONGEST)),
        priority: 20
        message:
            "Train {wildcards.arm} (one of the longest)"

    ruleorder: train_longest > train
