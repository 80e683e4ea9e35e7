"""Stage 2: stored features become fused vectors, heads, metrics and a run on disk."""
