"""Training an embedding model on the user's own images by self-supervision (SimCLR)."""
