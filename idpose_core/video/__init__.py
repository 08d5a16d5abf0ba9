"""Videos: sources, annotations, decoding, near-duplicates."""
