# From finished runs to tables, figures, numbers and claims, question by question.
# Each question is a target of its own: snakemake --cores all q6_vit

PRODUCTS = [
    *["table.csv", "numbers.json", "claims.json", "sources.json"],
    *["answer.md", "opening.json"],
    "tables/claims.md",
]


def read_by(stem):
    """What a question reads beside the data and the run folders."""
    return {
        "q7_complexity": [
            *rules.timing.output,
            *rules.execution.output,
            *rules.step_memory.output,
            *rules.reduce_tokens.output,
            # The token view follows single digits through the same network once more.
            *rules.reduce_tokens.input.thresholds,
            SUBJECT_RUN,
        ],
        "q8_transfer": [
            *rules.input_seconds.output,
            *weights_read_by(PLAN.arms_of("q8_transfer")),
            *source("weights.py", "checkpoint.py", "networks.py"),
        ],
    }.get(stem, [])


def view_files(stem):
    """The data of the page's interactive views that a question makes."""
    return [f"explore/{view}.json" for view in study_views.views_of(stem)]


for stem in STEMS:

    rule:
        name:
            stem
        input:
            data=MNIST,
            runs=run_files(arms_read_by(stem), ["summary.json"]),
            more=read_by(stem),
            code=CODE_QUESTIONS + source(f"questions/{stem}.py"),
        output:
            expand(
                f"{RESULTS}/{STUDY}/{stem}/{{name}}", name=PRODUCTS + view_files(stem)
            ),
            report(
                directory(f"{RESULTS}/{STUDY}/{stem}/figures"),
                patterns=["{figure}.svg"],
                caption="../report/figure.rst",
                category=heading(stem),
                labels={"figure": "{figure}"},
            ),
        log:
            f"{RESULTS}/{STUDY}/logs/{stem}.log",
        priority: study_jobs.PRIORITIES[stem]
        conda:
            ENVIRONMENT
        params:
            stem=stem,
            config=as_text(part_of_config(stem)),
        message:
            f"Answer {stem}"
        shell:
            "python -m vitrail.questions {params.stem} --config {params.config:q}"
            " --results results > {log} 2>&1"
