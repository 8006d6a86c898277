"""Pictures on the GPU from their upload to their label maps, where the backend runs there."""
