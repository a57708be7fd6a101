"""Masks of the published codes on small inputs; `published_masks.npz` holds what their own code gave."""

import json
from pathlib import Path

import numpy as np

from hf_fusion.models.configuration_dashfusion import MODALITIES

GOLDEN = dict(np.load(Path(__file__).with_name("published_masks.npz"), allow_pickle=False))
NOTES = json.loads(str(GOLDEN.pop("meta")))
LENGTHS = {name: GOLDEN[f"inputs.{name}_lengths"].tolist() for name in MODALITIES}
PADDED = {"text": 12, "audio": 20, "vision": 15}
IDS = [f"clip {i}" for i in range(6)]


def padded(masks):
    """Masks over valid positions as the golden arrays have them: by modality `(clips, padded length)`."""
    return {
        name: np.stack([np.pad(mask, (0, PADDED[name] - len(mask))) for mask in masks[name]]) for name in MODALITIES
    }
