"""What must be true: asset checks, one room a noun. A check is a claim; the verdict is the domain's.

A blocking check that fails stops everything after it in the run. Packaging and registration read the verdict again,
bound to digests, because a run of part of the graph passes by the checks of the other part.
"""
