"""Training: data, sampling, augmentation, averaging, checkpoints, published models."""
