"""A checkpoint in smaller or other forms."""

from hf_fusion.deployment.onnx_fusion import OnnxFusion

__all__ = ["OnnxFusion"]
