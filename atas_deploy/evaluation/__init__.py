"""How well a model does: scores with intervals, from counts that are kept image by image."""
