"""What Q5 measures of pre-norm and post-norm: lengths of tokens, and training curves."""
