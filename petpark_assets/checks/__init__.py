"""What must be true: asset checks, one room a noun. A check is a claim; the verdict is the domain's.

A blocking check that fails stops everything after it in the run. Packaging and registration read the verdict again,
bound to digests, because a run of part of the graph passes by the checks of the other part.
"""

import warnings

# Without a partitions_def one version's check would stand for all of them; Dagster calls that a preview, in every
# process that loads the definitions.
warnings.filterwarnings("ignore", message="Specifying a partitions_def on an AssetCheckSpec is currently in preview")
