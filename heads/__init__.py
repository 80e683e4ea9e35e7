"""Stage 2: stored features become fused vectors, heads, honest figures and a run that can be shown."""
