"""What dense features know, as pictures: clusters, main components, similarity, words."""
