"""Stage 1: data sets become a manifest, images and prompts become features in a store."""
