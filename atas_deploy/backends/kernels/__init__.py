"""CUDA kernels for all that is done to a picture beside the encoder, with numpy twins."""
