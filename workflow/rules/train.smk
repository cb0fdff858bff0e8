# One job trains one arm: all its seeds, one after the other, on one thread.
# A run that cannot be run leaves the three files that say so, so the others are not
# declared here; summary.json is written last and holds their checksums.


for name, priority, seeds, arms in study_jobs.training_rules(PLAN):

    rule:
        name:
            name
        input:
            data=MNIST,
            weights=lambda wildcards: weights_read_by([wildcards.arm]),
            starts=lambda wildcards: starts_of([wildcards.arm]),
            code=CODE_TRAIN,
        output:
            expand(
                f"{RESULTS}/{STUDY}/runs/{{{{arm}}}}-s{{seed}}/{{name}}",
                seed=seeds,
                name=study_settings.RUN_FILES,
            ),
        log:
            f"{RESULTS}/{STUDY}/logs/train/{{arm}}.log",
        wildcard_constraints:
            arm=study_jobs.pattern_of(arms),
        priority: priority
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            gpu=GPU,
            gpu_percent=lambda wildcards: part_of_gpu([wildcards.arm]),
            mem_mb=memory(2000),
        params:
            settings=settings_of,
            seeds=" ".join(map(str, seeds)),
            device=config["device"],
            study=lambda wildcards, output: Path(output[0]).parents[2],
            weights=lambda wildcards, input: (
                f"--weights {input.weights}" if input.weights else ""
            ),
        message:
            "Train {wildcards.arm}"
        shell:
            "python -m vitrail.train --settings {params.settings:q}"
            " --seeds {params.seeds} --data results/data --study {params.study}"
            " --device {params.device} {params.weights} > {log} 2>&1"


# A method at all its label budgets is one job: each run is as short as starting a process.
for name, priority, seeds, arms in study_jobs.training_together(PLAN):

    rule:
        name:
            name
        input:
            data=MNIST,
            weights=weights_read_by(arms),
            starts=starts_of(arms),
            code=CODE_TRAIN,
        output:
            run_files(arms, study_settings.RUN_FILES),
        log:
            f"{RESULTS}/{STUDY}/logs/train/{name}.log",
        priority: priority
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            gpu=GPU,
            gpu_percent=part_of_gpu(arms),
            mem_mb=memory(2000),
        params:
            settings=as_text([PLAN.arms[arm].settings for arm in arms]),
            seeds=" ".join(map(str, seeds)),
            device=config["device"],
            study=lambda wildcards, output: Path(output[0]).parents[2],
            weights=lambda wildcards, input: (
                f"--weights {input.weights}" if input.weights else ""
            ),
        message:
            f"Train {name.removeprefix('train_').replace('__', ': ')}"
        shell:
            "python -m vitrail.train --settings {params.settings:q}"
            " --seeds {params.seeds} --data results/data --study {params.study}"
            " --device {params.device} {params.weights} > {log} 2>&1"
