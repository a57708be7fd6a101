"""Uses checkpoints: loading, predictions over many rows, adapters, ONNX."""

from typing import TYPE_CHECKING

from hf_fusion.utils.lazy import lazy_names

if TYPE_CHECKING:
    from hf_fusion.deployment.adapters import add_lora, load_merged
    from hf_fusion.deployment.loading import load_checkpoint
    from hf_fusion.deployment.onnx_export import ExportError, export_onnx
    from hf_fusion.deployment.onnx_fusion import OnnxFusion
    from hf_fusion.deployment.predictions import load_pipeline, predict_rows
    from hf_fusion.deployment.ray_predict import predict_dataset
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "ExportError": "onnx_export",
            "OnnxFusion": "onnx_fusion",
            "add_lora": "adapters",
            "export_onnx": "onnx_export",
            "load_checkpoint": "loading",
            "load_merged": "adapters",
            "load_pipeline": "predictions",
            "predict_dataset": "ray_predict",
            "predict_rows": "predictions",
        },
    )

__all__ = [
    "ExportError",
    "OnnxFusion",
    "add_lora",
    "export_onnx",
    "load_checkpoint",
    "load_merged",
    "load_pipeline",
    "predict_dataset",
    "predict_rows",
]
