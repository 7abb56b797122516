"""Photos that were forgotten while they were being written: what an ingestion has brought back goes again.

Forgetting deletes what is stored when it runs. Who stores photos asks for the tombstones once more when all is written:
a photo forgotten before that is deleted here, one forgotten later by forgetting itself.
"""

from collections.abc import Iterable

from petpark_assets.domain import files
from petpark_assets.domain.lake import tombstones
from petpark_assets.domain.lake.originals import OriginalStore
from petpark_assets.domain.lake.pixels import PixelStore


def delete_again(store: files.Store, originals: OriginalStore, pixels: PixelStore, sha256s: Iterable[str]) -> list[str]:
    """Delete originals and pixels of those photos that are forgotten by now; returns these, sorted.

    A listing of the tombstones where none is. Raises TransientError: run it again.
    """
    back = sorted(tombstones.forgotten(store).intersection(sha256s))
    if not back:
        return []
    if len(originals.missing(back)) < len(back):
        originals.forget(back)
    else:
        originals.delete_old_versions()
    if any(len(pixels.missing(back, side_px)) < len(back) for side_px in pixels.resolutions()):
        pixels.forget(back)
    else:
        pixels.delete_old_versions()
    return back
