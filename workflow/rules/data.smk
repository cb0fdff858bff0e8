# MNIST and, for the arms that ask for them, ImageNet weights.


rule mnist:
    input:
        code=source("data.py", "download.py", "web.py"),
    output:
        # `update` keeps files that a user has put there.
        update([*MNIST_FILES, "results/data/source.json"]),
    log:
        "results/logs/mnist.log",
    # Trainings wait for it.
    priority: study_jobs.PRIORITIES["mnist"]
    conda:
        ENVIRONMENT
    params:
        # Behind an equals sign, so that a name with a dash in front is no option.
        folder=verbatim(shlex.quote(config["data"]["folder"])),
    message:
        "Fetch MNIST and check it"
    shell:
        "python -m vitrail.download --folder={params.folder} --out results/data > {log} 2>&1"


rule imagenet_weights:
    input:
        code=source("weights.py", "packaged.py", "checkpoint.py", "web.py"),
        # A file put there later is seen by the next run.
        local=sorted(map(str, Path("results/weights").glob("*"))),
    output:
        f"{RESULTS}/{STUDY}/weights/{{model}}.{{tag}}.json",
    log:
        f"{RESULTS}/{STUDY}/logs/weights/{{model}}.{{tag}}.log",
    wildcard_constraints:
        model="[^./]+",
        tag="[^/]+",
    # The longest trainings wait for it.
    priority: study_jobs.PRIORITIES["imagenet_weights"]
    conda:
        ENVIRONMENT
    params:
        path=verbatim(shlex.quote(config["pretrained"]["path"])),
    message:
        "Look for the weights {wildcards.model}.{wildcards.tag}"
    shell:
        "python -m vitrail.weights --model {wildcards.model} --tag {wildcards.tag}"
        " --path={params.path} --out {output} > {log} 2>&1"
