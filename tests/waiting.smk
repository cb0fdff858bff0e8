# What Snakemake itself takes while jobs wait: 352 that do nothing and two of 20 s, for whose end 102
# of them wait. In an empty folder, for the table in docs/cost.md:
#
#   snakemake -s .../tests/waiting.smk --cores 2 --quiet all --scheduler greedy --config drop=1
import os, threading, time

SHORT, LONG, WAITING, SECONDS = range(250), range(2), range(102), 20


rule all:
    default_target: True
    input:
        expand("short{i}", i=SHORT),
        expand("long{i}", i=LONG),
        expand("waiting{i}", i=WAITING),


rule short:
    output:
        "short{i}",
    priority: 10
    shell:
        "touch {output}"


rule long:
    output:
        "long{i}",
    priority: 5
    shell:
        f"sleep {SECONDS}; touch {{output}}"


rule waiting:
    output:
        "waiting{i}",
    shell:
        "touch {output}"


def used():
    spent = os.times()
    return spent.user + spent.system


def look():
    while not all(os.path.exists(f"short{i}") for i in SHORT):
        time.sleep(0.5)
    time.sleep(2)
    before = used()
    time.sleep(SECONDS - 6)
    share = (used() - before) / (SECONDS - 6)
    print(
        f"waiting: {share:.1%} of a core, {threading.active_count()} threads",
        flush=True,
    )


onstart:
    if config.get("drop"):
        workflow.scheduler.job_rate_limiter = None
    threading.Thread(target=look, daemon=True).start()


onsuccess:
    spent, last = os.times(), max(os.path.getmtime(f"waiting{i}") for i in WAITING)
    print(
        f"Snakemake {used():.1f}, started {spent.children_user + spent.children_system:.1f}"
    )
    print(f"last job ended at {last:.1f}", flush=True)
