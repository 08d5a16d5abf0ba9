"""Networks and the pixel verification of the paper's section 3; no training loop."""
