"""The row stages of the pipeline, in the order in which data passes through them.

fetch -> detect -> link -> crop -> mask -> embed. Each file adapts the pure functions of one room
to rows: what enters the key, and which columns come out.
"""
