"""A trained network's answers about many photos: what the exam and the checks of packaging ask.

Not here: the service's answers, which need no torch (package/predictor.py).
"""

import numpy as np
import numpy.typing as npt
import torch

from petpark_assets.domain.model.devices import find_device
from petpark_assets.domain.model.network import Classifier


def predict(
    classifier: Classifier, images: npt.NDArray[np.uint8], *, batch_size: int = 256, device: str = "auto"
) -> npt.NDArray[np.float32]:
    """The probability of the second label (dog), float32 [N], of photos uint8 [N, H, W, 3].

    In float32 on every device: the report describes what is exported. The classifier is left on the device.
    """
    target = find_device(device)
    classifier.to(target).to(memory_format=torch.channels_last).eval()
    probabilities = np.empty(len(images), dtype=np.float32)
    # TF32 would keep 10 bits of each factor: enough to move a label that the ONNX file gives on a CPU.
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        for start in range(0, len(images), batch_size):
            # A copy: the photos may be a read-only memory map, which torch does not take.
            photos = torch.from_numpy(np.array(images[start : start + batch_size])).to(target)
            probabilities[start : start + batch_size] = classifier(photos)[:, 1].cpu().numpy()
    return probabilities
