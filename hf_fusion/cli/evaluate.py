"""Measure a checkpoint on labelled data: metrics and pictures.

    hf-fusion evaluate runs/dyfulm_synthetic
    hf-fusion evaluate runs/dyfulm_synthetic --dataset my_reviews.csv --columns '{"text": "review"}'
    hf-fusion evaluate runs/dashfusion_mosi --dataset MOSI/Processed/unaligned_50.pkl

Without --dataset the data of the checkpoint's own recipe is used (its test split). The folder evaluation-SPLIT of the
run gets metrics.json, the same as LaTeX, and pictures: confusion and calibration, or true and predicted scores.
"""

from dataclasses import dataclass, field
from typing import Literal

from hf_fusion.cli.arguments import CheckpointArguments


@dataclass
class EvaluateArguments(CheckpointArguments):
    dtype: str = field(default="float32", metadata={"help": "float32, bfloat16 or float16."})
    format: Literal["png", "pdf", "svg"] = field(default="png", metadata={"help": "Of the pictures."})


def main(argv: list[str]) -> None:
    from tqdm import tqdm

    from hf_fusion.architectures.write_evaluation import write_evaluation
    from hf_fusion.cli.output import print_metrics, print_written, show_labels
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
    print_written(folder)
