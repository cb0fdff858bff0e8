"""From the products of the questions to ``report.html`` and ``report.pdf``.

The way of a sentence: `stage` gathers sources, figures, tables, numbers and code in one
folder; `source` puts includes and variables in; `quarto` or `builtin` render; `check` looks
at the result; `render` is the command that does all of it.
"""
