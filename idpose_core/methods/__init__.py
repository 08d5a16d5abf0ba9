"""Ways to train a generator: which passes one iteration makes, and which losses follow."""
