"""Stage 1: data sets become a manifest, pictures and prompts become features in a store."""
