"""Training of CLIP towers (needs the `train` extra)."""
