"""What Q6 shows of positions: the embeddings themselves, and patches shuffled."""
