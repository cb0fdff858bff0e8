"""The interactive views of the HTML page, and the question that makes the data of each.

Imports nothing: Snakemake reads it each time it parses the workflow.
"""

VIEWS = {"attention": "q4_multi_head", "effects": "q6_vit", "reduction": "q7_complexity"}


def views_of(stem: str) -> list[str]:
    """The views whose data one question writes, as ``explore/<view>.json`` in its folder."""
    return sorted(view for view, home in VIEWS.items() if home == stem)
