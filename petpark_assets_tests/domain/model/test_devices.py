"""Claims about devices."""

import pytest

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.model.devices import find_device


def test_an_unknown_device_is_refused():
    """Falling back in silence would cost a day on the wrong machine."""
    with pytest.raises(InvalidInput, match="device is 'tpu': it must be one of auto, cpu, cuda"):
        find_device("tpu")
