# vitrail: a Vision Transformer study on MNIST, from the runs to the report.
#
#   snakemake --cores all                                     the whole study
#   snakemake --cores all q6_vit                              what one question needs
#   snakemake --cores all --configfile config/smoke.yaml      another size of it
#
# results/<study>/runs/<run>/ (train) -> <question>/ (questions) -> report/ (report),
# and from the same files the MLflow store (track).
from snakemake.utils import min_version

min_version("9.10")


configfile: "config/default.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/pretrain.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/timing.smk"
include: "workflow/rules/reduction.smk"
include: "workflow/rules/questions.smk"
include: "workflow/rules/track.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/content.smk"


# On a cluster these run where Snakemake does: they take seconds, ask the network, which compute
# nodes often lack, or write SQLite, which two machines must not do together.
localrules:
    all,
    mnist,
    imagenet_weights,
    mlflow_store,
    track,
    question_runs,
    run_table,
    claim_table,
    rule_graph,
    study_facts,
    report,


rule all:
    default_target: True
    input:
        rules.report.output,
        rules.run_table.output,
        rules.claim_table.output,
        expand(rules.track.output, stem=STEMS),


onstart:
    study_places.before_jobs(Path(RESULTS), STUDY)
    end_steps_when_told(
        on_slurm=study_slurm.take_note(workflow.executor_plugin.name)
    )
    study_cost.begin()
    drop_rate_limit(workflow.scheduler)
    study_progress.begin(workflow, PLANNED, Path(RESULTS))


onsuccess:
    study_progress.end("finished")
    study_cost.tell_of_snakemake(
        Path(RESULTS, STUDY), CORES, workflow.executor_plugin.name
    )
    study_ending.after_snakemake(STUDY, Path(RESULTS))


onerror:
    study_progress.end("failed")
    study_cost.tell_of_snakemake(
        Path(RESULTS, STUDY), CORES, workflow.executor_plugin.name
    )
    if lacking := study_places.shortage(Path(RESULTS)):
        print(lacking, file=sys.stderr)
