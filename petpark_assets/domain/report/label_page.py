"""The photos whose label is doubted as a page for a person to review: pictures, and beside each what mends it.

Not here: which they are (workflow/label_issues.py). The page holds photos, so it is drawn on demand and never stored.
"""

from collections.abc import Mapping
from typing import Any

from petpark_assets.domain.report.gallery import data_uri
from petpark_assets.domain.report.page import open_templates

TEMPLATE = "label_page.html.j2"


def render(document: Mapping[str, Any], photos: Mapping[str, bytes], *, num_shown: int) -> bytes:
    """The page, UTF-8, that asks nothing of any network.

    Args:
        document: from workflow.label_issues.find_label_issues.
        photos: JPEG or PNG bytes by sha256 (gallery.thumbnail); one that is missing is said to be gone.
        num_shown: at most so many photos, the first of the list.
    """
    pictures = {sha256: data_uri(photo) for sha256, photo in photos.items()}
    page = open_templates().get_template(TEMPLATE).render(document, photos=pictures, num_shown=num_shown)
    return page.encode()
