"""The final performance of Q6: one long run looked at from all sides."""
