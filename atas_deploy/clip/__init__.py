"""CLIP image towers in PyTorch, as dense encoders."""
