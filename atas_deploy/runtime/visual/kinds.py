"""What can be shown of dense features."""

KINDS = ("kmeans", "pca", "similarity", "words")
SCORES = ("probability", "cosine")
MAX_CLUSTERS = 64
