"""Pretrained networks: where from, which sha256, which licence."""
