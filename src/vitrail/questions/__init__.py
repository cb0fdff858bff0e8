"""One module per question: from run folders to tables, figures, numbers and claims.

Each has `answer(study) -> Answer`. `python -m vitrail.questions STEM` runs one.
"""
