"""From many runs to tables: studies with seeds and variants, hyper-parameter searches."""

from typing import TYPE_CHECKING

from hf_fusion.utils.lazy import lazy_names

if TYPE_CHECKING:
    from hf_fusion.studies.study import Study, StudyError
    from hf_fusion.studies.summaries import summarize
    from hf_fusion.studies.tuning import Search, tune
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "Search": "tuning",
            "Study": "study",
            "StudyError": "study",
            "summarize": "summaries",
            "tune": "tuning",
        },
    )

__all__ = [
    "Search",
    "Study",
    "StudyError",
    "summarize",
    "tune",
]
