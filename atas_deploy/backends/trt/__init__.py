"""TensorRT: engines built, kept, and run on GPUs."""
