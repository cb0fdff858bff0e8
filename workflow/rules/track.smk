# MLflow: the browsable record of the files. One step opens the store, because processes
# that open a fresh database together break it; then one idempotent sync per question.


rule mlflow_store:
    input:
        code=source("tracking/store.py"),
    output:
        touch(f"{RESULTS}/logs/mlflow_store.done"),
    log:
        f"{RESULTS}/logs/mlflow_store.log",
    conda:
        ENVIRONMENT
    message:
        "Open the MLflow store"
    shell:
        "python -m vitrail.tracking init --results results > {log} 2>&1"


rule track:
    input:
        store=rules.mlflow_store.output,
        # The table changes with every arm; this question's record changes with its own.
        table=ancient(f"{RESULTS}/{STUDY}/runs.csv"),
        runs=lambda wildcards: run_files(arms_at_home(wildcards.stem), ["summary.json"]),
        claims=f"{RESULTS}/{STUDY}/{{stem}}/claims.json",
        data=MNIST,
        figures=f"{RESULTS}/{STUDY}/{{stem}}/figures",
        code=source("tracking/*.py"),
    output:
        f"{RESULTS}/{STUDY}/{{stem}}/tracking.json",
    log:
        f"{RESULTS}/{STUDY}/logs/track_{{stem}}.log",
    conda:
        ENVIRONMENT
    params:
        study=STUDY,
    message:
        "Record {wildcards.stem} in MLflow"
    shell:
        "python -m vitrail.tracking sync --study {params.study} --question {wildcards.stem}"
        " --results results --out {output} > {log} 2>&1"
