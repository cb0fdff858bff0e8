"""vitrail: a Vision Transformer study on MNIST, from the runs to the report.

The package is imported by the workflow's steps, each an ordinary command
(``python -m vitrail.train --help``). Nothing heavy is imported here.
"""

from vitrail import outside

__version__ = "0.1.0"

outside.settle()
