"""Uses checkpoints: loading, predictions over many rows, adapters, ONNX and other exports."""

from typing import TYPE_CHECKING

from hf_fusion.utils.lazy import lazy_names

if TYPE_CHECKING:
    from hf_fusion.deployment.adapters import add_lora, load_merged
    from hf_fusion.deployment.export_folder import ExportError
    from hf_fusion.deployment.loading import load_checkpoint
    from hf_fusion.deployment.onnx_export import export_onnx
    from hf_fusion.deployment.onnx_fusion import OnnxFusion
    from hf_fusion.deployment.predictions import load_pipeline, predict_rows
    from hf_fusion.deployment.ray_predict import predict_dataset
    from hf_fusion.deployment.sequence_classifier import export_sequence_classifier
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "ExportError": "export_folder",
            "OnnxFusion": "onnx_fusion",
            "add_lora": "adapters",
            "export_onnx": "onnx_export",
            "export_sequence_classifier": "sequence_classifier",
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
    "export_sequence_classifier",
    "load_checkpoint",
    "load_merged",
    "load_pipeline",
    "predict_dataset",
    "predict_rows",
]
