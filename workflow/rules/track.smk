# MLflow: the browsable record of the files. One step opens the store, because processes
# that open a fresh database together break it, and makes the study's experiments in their
# order; then one idempotent sync per question, as soon as it is answered: MLflow shows the
# first questions while the trainings of the others go on.


rule mlflow_store:
    input:
        code=source("tracking/store.py"),
    output:
        touch(f"{RESULTS}/{STUDY}/mlflow_store.done"),
    log:
        f"{RESULTS}/{STUDY}/logs/mlflow_store.log",
    priority: study_jobs.PRIORITIES["mlflow_store"]
    conda:
        ENVIRONMENT
    params:
        study=STUDY,
    message:
        "Open the MLflow store"
    shell:
        "python -m vitrail.tracking init --study {params.study} --results results > {log} 2>&1"


# A table of its own for each question, so that a new arm elsewhere does not record it again.
rule question_runs:
    input:
        runs=lambda wildcards: run_files(arms_at_home(wildcards.stem), ["summary.json"]),
        code=source("collect.py"),
    output:
        table=f"{RESULTS}/{STUDY}/{{stem}}/runs.csv",
        sum=f"{RESULTS}/{STUDY}/{{stem}}/runs.csv.sha256",
    log:
        f"{RESULTS}/{STUDY}/logs/question_runs_{{stem}}.log",
    priority: study_jobs.PRIORITIES["question_runs"]
    conda:
        ENVIRONMENT
    params:
        study=STUDY,
        arms=rows_at_home,
    message:
        "Gather the runs that MLflow keeps under {wildcards.stem}"
    shell:
        "python -m vitrail.collect question --study {params.study} --results results"
        " --arms {params.arms:q} --out {output.table} > {log} 2>&1"


rule track:
    input:
        store=rules.mlflow_store.output,
        runs=rules.question_runs.output,
        claims=f"{RESULTS}/{STUDY}/{{stem}}/claims.json",
        sources=f"{RESULTS}/{STUDY}/{{stem}}/sources.json",
        data=MNIST,
        figures=f"{RESULTS}/{STUDY}/{{stem}}/figures",
        code=source("tracking/*.py"),
    output:
        f"{RESULTS}/{STUDY}/{{stem}}/tracking.json",
    log:
        f"{RESULTS}/{STUDY}/logs/track_{{stem}}.log",
    priority: study_jobs.PRIORITIES["track"]
    conda:
        ENVIRONMENT
    params:
        study=STUDY,
    message:
        "Record {wildcards.stem} in MLflow"
    shell:
        "python -m vitrail.tracking sync --study {params.study} --question {wildcards.stem}"
        " --results results --out {output} > {log} 2>&1"
