"""Evaluate a checkpoint on labelled data: metrics and figures.

    hf-fusion evaluate runs/dyfulm_synthetic
    hf-fusion evaluate runs/dyfulm_synthetic --dataset my_reviews.csv --columns '{"text": "review"}'
    hf-fusion evaluate runs/dashfusion_mosi --dataset MOSI/Processed/unaligned_50.pkl

Without --dataset the test split of the checkpoint's recipe is used. A DyFuLM reads texts beyond its limit whole, in
windows; with --long_texts cut it reads them as a training with `long_texts: cut`, the default, does.

metrics.json, a LaTeX table, predictions.parquet
(ids, labels and outputs, without texts) and figures (confusion and calibration, or true and predicted scores) are
written to the folder evaluation-SPLIT of the run. For reviews it also prints and keeps the majority class and bag of
words on the same rows, intervals, the classes, and warnings.
"""

from dataclasses import dataclass, field
from typing import Literal

from hf_fusion.cli.arguments import CheckpointArguments


@dataclass
class EvaluateArguments(CheckpointArguments):
    """The arguments of `hf-fusion evaluate`."""

    dtype: str = field(default="float32", metadata={"help": "float32, bfloat16 or float16."})
    long_texts: Literal["window", "cut"] | None = field(
        default=None, metadata={"help": "Texts beyond the limit: window reads them whole (default for DyFuLM), or cut."}
    )
    format: Literal["png", "pdf", "svg"] = field(default="png", metadata={"help": "Format of the figures."})
    evidence: bool = field(
        default=True,
        metadata={
            "help": "For reviews: also the majority class and bag of words fitted on the training rows, intervals, "
            "classes and confusion, and warnings."
        },
    )


def main(argv: list[str]) -> None:
    """Runs `hf-fusion evaluate`."""
    from tqdm import tqdm

    from hf_fusion.architectures.write_evaluation import write_evaluation
    from hf_fusion.cli.output import print_evidence, print_metrics, print_written, show_labels
    from hf_fusion.training.recipe import parse_data_arguments
    from hf_fusion.utils.quiet import silence_libraries

    silence_libraries()
    show_labels()
    args, data_args = parse_data_arguments(EvaluateArguments, argv, __doc__, "hf-fusion evaluate")
    record, folder = write_evaluation(
        data_args=data_args, **vars(args), track=lambda answers, total, unit: tqdm(answers, total=total, unit=unit)
    )
    print_metrics(
        f"{args.checkpoint} on {data_args.dataset} ({record['rows']:,} rows)", {args.split: record[args.split]}
    )
    print_evidence(record)
    print_written(folder)
