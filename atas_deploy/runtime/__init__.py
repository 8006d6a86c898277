"""Words and pictures in, masks out."""
