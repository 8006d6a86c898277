"""Export of CLIP towers to bundles (needs the `export` extra)."""
