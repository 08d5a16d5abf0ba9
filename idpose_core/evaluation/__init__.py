"""Measuring: is it better, on which data, by how much, how sure (paper, section 4)."""
