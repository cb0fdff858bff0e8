# The tables of the whole study, and the report that is rendered from everything before.


rule run_table:
    input:
        summaries=run_files(sorted(PLAN.arms), ["summary.json"]),
        code=source("runs.py", "collect.py"),
    output:
        plan=f"{RESULTS}/{STUDY}/plan.csv",
        runs=report(
            f"{RESULTS}/{STUDY}/runs.csv",
            caption="../report/runs.rst",
            category="Study",
            labels={"table": "runs"},
        ),
        sum=f"{RESULTS}/{STUDY}/runs.csv.sha256",
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
        claims=expand(
            f"{RESULTS}/{STUDY}/{{stem}}/{{name}}.json",
            stem=STEMS,
            name=["claims", "sources"],
        ),
        code=source("collect.py"),
    output:
        table=report(
            f"{RESULTS}/{STUDY}/claims.csv",
            caption="../report/claims.rst",
            category="Study",
            labels={"table": "claims"},
        ),
        sum=f"{RESULTS}/{STUDY}/claims.csv.sha256",
    log:
        f"{RESULTS}/{STUDY}/logs/claim_table.log",
    conda:
        ENVIRONMENT
    params:
        study=STUDY,
    message:
        "Write the table of all claims"
    shell:
        "python -m vitrail.collect claims --study {params.study} --results results --out {output.table} > {log} 2>&1"


rule rule_graph:
    input:
        workflow=["Snakefile", *map(str, sorted(Path("workflow/rules").glob("*.smk")))],
        code=source("rule_graph.py"),
    output:
        f"{RESULTS}/{STUDY}/study/rules.csv",
    log:
        f"{RESULTS}/{STUDY}/logs/rule_graph.log",
    conda:
        ENVIRONMENT
    params:
        config=as_text(config),
    message:
        "Ask Snakemake for its rule graph"
    shell:
        "python -m vitrail.rule_graph --config {params.config:q} --out {output} > {log} 2>&1"


rule study_facts:
    input:
        rules=rules.rule_graph.output,
        runs=rules.run_table.output,
        claims=rules.claim_table.output,
        answers=expand(f"{RESULTS}/{STUDY}/{{stem}}/opening.json", stem=STEMS),
        tracking=expand(rules.track.output, stem=STEMS),
        code=source("collect.py", "opening.py", "provenance.py", "rule_graph.py")
        + source("stages.py", "cost.py", "commit.py", "style.py"),
    output:
        expand(
            f"{RESULTS}/{STUDY}/study/{{name}}",
            name=[
                "numbers.json",
                "sources.json",
                "answers.csv",
                "made.csv",
                "costs.csv",
            ],
        ),
        directory(f"{RESULTS}/{STUDY}/study/tables"),
        report(
            directory(f"{RESULTS}/{STUDY}/study/figures"),
            patterns=["{figure}.svg"],
            caption="../report/figure.rst",
            category="Study",
            labels={"figure": "{figure}"},
        ),
    log:
        f"{RESULTS}/{STUDY}/logs/study_facts.log",
    conda:
        ENVIRONMENT
    params:
        study=STUDY,
    message:
        "Gather what the report says about the study as a whole"
    shell:
        "python -m vitrail.provenance --study {params.study} --results results"
        " --rules {input.rules} > {log} 2>&1"


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
        code=source("report/*.py", "views.py", "commit.py", "model/*.py")
        + source("efficiency.py", "reduction/*.py"),
    output:
        report(
            f"{RESULTS}/{STUDY}/report/report.html",
            caption="../report/report.rst",
            category="Study",
            labels={"report": "page"},
        ),
        report(
            f"{RESULTS}/{STUDY}/report/report.pdf",
            caption="../report/report.rst",
            category="Study",
            labels={"report": "PDF"},
        ),
    log:
        f"{RESULTS}/{STUDY}/logs/report.log",
    conda:
        ENVIRONMENT
    params:
        study=STUDY,
        repository=verbatim(shlex.quote(config["report"]["repository"])),
        mlflow=verbatim(shlex.quote(config["report"]["mlflow"])),
    message:
        "Render the report"
    shell:
        "python -m vitrail.report.render --study {params.study} --results results --source report"
        " --root . --repository {params.repository} --mlflow {params.mlflow} > {log} 2>&1"
