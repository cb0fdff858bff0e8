# The tables of the whole study, and the report that is rendered from everything before.


rule run_table:
    input:
        summaries=run_files(sorted(PLAN.arms), ["summary.json"]),
        code=source("runs.py", "collect.py"),
    output:
        plan=f"{RESULTS}/{STUDY}/plan.csv",
        runs=f"{RESULTS}/{STUDY}/runs.csv",
    log:
        f"{RESULTS}/{STUDY}/logs/run_table.log",
    conda:
        ENVIRONMENT
    params:
        study=STUDY,
        config=as_text(config),
    message:
        "Write the tables of all runs"
    shell:
        "(python -m vitrail.runs --config {params.config:q} --out {output.plan} &&"
        " python -m vitrail.collect runs --study {params.study} --results results --out {output.runs}) > {log} 2>&1"


rule claim_table:
    input:
        claims=expand(f"{RESULTS}/{STUDY}/{{stem}}/claims.json", stem=STEMS),
        code=source("collect.py"),
    output:
        f"{RESULTS}/{STUDY}/claims.csv",
    log:
        f"{RESULTS}/{STUDY}/logs/claim_table.log",
    conda:
        ENVIRONMENT
    params:
        study=STUDY,
    message:
        "Write the table of all claims"
    shell:
        "python -m vitrail.collect claims --study {params.study} --results results --out {output} > {log} 2>&1"


rule study_facts:
    input:
        runs=rules.run_table.output,
        claims=rules.claim_table.output,
        answers=expand(f"{RESULTS}/{STUDY}/{{stem}}/opening.json", stem=STEMS),
        tracking=expand(rules.track.output, stem=STEMS),
        code=source("collect.py", "opening.py", "provenance.py"),
    output:
        f"{RESULTS}/{STUDY}/study/numbers.json",
        f"{RESULTS}/{STUDY}/study/answers.csv",
        directory(f"{RESULTS}/{STUDY}/study/tables"),
    log:
        f"{RESULTS}/{STUDY}/logs/study_facts.log",
    conda:
        ENVIRONMENT
    params:
        study=STUDY,
    message:
        "Gather what the report says about the study as a whole"
    shell:
        "python -m vitrail.provenance --study {params.study} --results results > {log} 2>&1"


rule report:
    input:
        facts=rules.study_facts.output,
        answers=expand(f"{RESULTS}/{STUDY}/{{stem}}/answer.md", stem=STEMS),
        figures=expand(f"{RESULTS}/{STUDY}/{{stem}}/figures", stem=STEMS),
        views=[
            f"{RESULTS}/{STUDY}/{stem}/{name}"
            for stem in STEMS
            for name in view_files(stem)
        ],
        sources=sorted(
            path.relative_to(ROOT).as_posix()
            for path in (ROOT / "report").rglob("*")
            if path.is_file()
        ),
        # Equations are printed beside the lines of code between region marks.
        code=source(
            "report/*.py", "views.py", "model/*.py", "efficiency.py", "reduction/*.py"
        ),
    output:
        f"{RESULTS}/{STUDY}/report/report.html",
        f"{RESULTS}/{STUDY}/report/report.pdf",
    log:
        f"{RESULTS}/{STUDY}/logs/report.log",
    conda:
        ENVIRONMENT
    params:
        study=STUDY,
    message:
        "Render the report"
    shell:
        "python -m vitrail.report.render --study {params.study} --results results --source report"
        " --root . > {log} 2>&1"
