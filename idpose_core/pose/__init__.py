"""Pose space: masks, embedding, clusters, neighbours, triplet sampling (paper section 3.2)."""
