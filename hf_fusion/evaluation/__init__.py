"""From answers to evidence: metrics, statistics, diagnostics, pictures."""

from typing import TYPE_CHECKING

from hf_fusion.utils.lazy import lazy_names

if TYPE_CHECKING:
    from hf_fusion.evaluation.metrics import ReviewMetrics, SentimentRegressionMetrics
    from hf_fusion.evaluation.robustness import robustness_curves
    from hf_fusion.evaluation.statistics import paired_difference
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "ReviewMetrics": "metrics",
            "SentimentRegressionMetrics": "metrics",
            "paired_difference": "statistics",
            "robustness_curves": "robustness",
        },
    )

__all__ = [
    "ReviewMetrics",
    "SentimentRegressionMetrics",
    "paired_difference",
    "robustness_curves",
]
