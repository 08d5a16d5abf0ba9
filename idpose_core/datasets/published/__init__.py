"""Multi-view image sets in the form in which they are published.

3D Cars, 3D Chairs, ETH-80 and the EPFL multi-view cars: each is a ``datasets.views.ViewSet`` over
the folder that its archive extracts to. Splits are frozen in ``splits.csv``. What is not as it was
published is a ``ValueError`` where it concerns the whole set, else the status of one object.
"""
