# What the source files of a rule hold, as a param of it, after all rules. Snakemake looks into an
# input only where it is newer than the output, but the files of another version may be older:
# those of an archive keep their times, and clocks are set back.
for rule_of_workflow in workflow.rules:
    if "code" in rule_of_workflow.input.keys():
        rule_of_workflow.set_params(code=content_of(rule_of_workflow.input.code))
