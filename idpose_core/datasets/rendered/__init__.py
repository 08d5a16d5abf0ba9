"""The rendered world: families of car and chair models, rendered with known truth.

``views`` gives the clean multi-view sets, ``videos`` writes real video files with annotations and
a truth table. Both use one convention for poses, see ``camera``.
"""
