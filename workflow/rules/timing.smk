# Q7's meters. The two clocks ask for every core, so nothing else runs beside them.


rule timing:
    input:
        code=CODE_MODEL
        + source("timing*.py", "meters.py", "efficiency.py", "scaling.py"),
    output:
        table=f"{RESULTS}/{STUDY}/timing/attention.csv",
        samples=f"{RESULTS}/{STUDY}/timing/attention_samples.csv",
        sums=expand(
            f"{RESULTS}/{STUDY}/timing/{{table}}.csv.sha256",
            table=["attention", "attention_samples"],
        ),
        facts=f"{RESULTS}/{STUDY}/timing/env.json",
    log:
        f"{RESULTS}/{STUDY}/logs/timing.log",
    # First of all.
    priority: study_jobs.PRIORITIES["timing"]
    conda:
        ENVIRONMENT
    threads: CORES
    resources:
        gpu=GPU,
        gpu_percent=WHOLE_GPU,
    params:
        settings=as_text(TIMING),
    message:
        "Time attention against the number of tokens, alone on the machine"
    shell:
        "python -m vitrail.timing --params {params.settings:q} --out {output.table}"
        " --log-env {output.facts} > {log} 2>&1"


rule execution:
    input:
        run=SUBJECT_RUN,
        data=MNIST,
        weights=f"{RESULTS}/{STUDY}/{study_complexity.tuned_weights(PLAN)}",
        code=CODE_TRAIN + source("execution/*.py", "meters.py", "weights.py"),
    output:
        table=f"{RESULTS}/{STUDY}/execution/ways.csv",
        sum=f"{RESULTS}/{STUDY}/execution/ways.csv.sha256",
        facts=f"{RESULTS}/{STUDY}/execution/env.json",
    log:
        f"{RESULTS}/{STUDY}/logs/execution.log",
    conda:
        ENVIRONMENT
    threads: CORES
    resources:
        gpu=GPU,
        gpu_percent=WHOLE_GPU,
    params:
        run=lambda wildcards, input: Path(input.run).parent,
        settings=as_text(EXECUTION),
    message:
        "Compute one network in every way, alone on the machine"
    shell:
        "python -m vitrail.execution --run {params.run} --data results/data"
        " --weights {input.weights} --params {params.settings:q} --out {output.table}"
        " --log-env {output.facts} > {log} 2>&1"


rule step_memory:
    input:
        data=MNIST,
        code=CODE_TRAIN + source("step_memory.py", "meters.py"),
    output:
        table=f"{RESULTS}/{STUDY}/training_memory.csv",
        sum=f"{RESULTS}/{STUDY}/training_memory.csv.sha256",
    log:
        f"{RESULTS}/{STUDY}/logs/step_memory.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=GPU,
        gpu_percent=part_of_gpu(study_complexity.trained_for_less(PLAN)),
        mem_mb=memory(2000),
    params:
        arms=as_text(study_complexity.trained_for_less(PLAN)),
        device=config["device"],
    message:
        "Measure the memory of training steps"
    shell:
        "python -m vitrail.step_memory --arms {params.arms:q} --data results/data"
        " --device {params.device} --out {output.table} > {log} 2>&1"


rule input_seconds:
    input:
        code=CODE_MODEL + source("input_seconds.py"),
    output:
        table=f"{RESULTS}/{STUDY}/input_seconds.csv",
        sum=f"{RESULTS}/{STUDY}/input_seconds.csv.sha256",
    log:
        f"{RESULTS}/{STUDY}/logs/input_seconds.log",
    conda:
        ENVIRONMENT
    threads: 1
    message:
        "Time ViT-S on images of several sizes"
    shell:
        "python -m vitrail.input_seconds --out {output.table} > {log} 2>&1"
