"""Calibrate the answers of a trained DyFuLM, and let it be unsure.

    hf-fusion calibrate runs/dyfulm_synthetic
    hf-fusion calibrate runs/mine --dataset new.csv --split_shares 0 0.5 0.5
    hf-fusion calibrate runs/mine --target_accuracy 0.9 --output runs/careful

A temperature for the fine and one for the coarse classes are fitted on the
validation split and written into config.json; labels stay the same, their
probabilities become right on average. `hf-fusion train` does the same at its
end. --target_accuracy chooses the probability below which an answer is unsure
(label None, the best classes as `alternatives`) so that the others are right
that often; --abstain_below sets it. Both are measured on the test split, if
there is one. Without --dataset the data of the checkpoint's recipe is used.

The folder `calibration` of the checkpoint gets calibration.json and pictures:
reliability before and after, wrong answers by the share that is answered. A
run folder has the result in metrics.json and in its model card, too, and its
kept predictions are measured again. Exports of the checkpoint are to be made
again.
"""

from dataclasses import dataclass, field


@dataclass
class CalibrateArguments:
    """The arguments of `hf-fusion calibrate`."""

    checkpoint: str = field(metadata={"help": "A run folder, or a name on the Hub.", "aliases": ["-c"]})
    target_accuracy: float | None = field(
        default=None, metadata={"help": "Accuracy of the answers that are given: 0.9 ..."}
    )
    abstain_below: float | None = field(
        default=None,
        metadata={"help": "Probability below which an answer is unsure; 0: none. By default it stays as it is."},
    )
    output: str | None = field(
        default=None, metadata={"help": "New folder for a calibrated copy; by default the checkpoint is changed."}
    )
    batch_size: int = field(default=32, metadata={"help": "Rows per forward pass."})
    device: str | None = field(default=None, metadata={"help": "cpu, cuda:0 ...; default: the accelerator, if any."})


def main(argv: list[str]) -> None:
    """Runs `hf-fusion calibrate`."""
    from tqdm import tqdm

    from hf_fusion.architectures.write_calibration import write_calibration
    from hf_fusion.cli.output import print_metrics, print_written, show_labels
    from hf_fusion.evaluation.kept_predictions import PREDICTIONS_FILE
    from hf_fusion.hub.repository import CALIBRATION_FOLDER
    from hf_fusion.training.recipe import parse_data_arguments
    from hf_fusion.utils.quiet import silence_libraries
    from hf_fusion.utils.records import METRICS_FILE

    silence_libraries()
    show_labels()
    args, data_args = parse_data_arguments(CalibrateArguments, argv, __doc__, "hf-fusion calibrate")
    calibration, folder = write_calibration(
        data_args=data_args, **vars(args), track=lambda answers, total, unit: tqdm(answers, total=total, unit=unit)
    )
    record = calibration.record
    splits = [split for split in ("validation", "test") if split in record]
    for split in splits:
        title = f"{split} of {data_args.dataset} ({record[split]['rows']:,} rows)"
        print_metrics(title, {side: record[split][side] for side in ("before", "after")})
    heads = {"temperature": "fine", "coarse_temperature": "coarse"}
    found = ", ".join(f"{record[name]:.3f} ({head})" for name, head in heads.items() if name in record)
    print(f"Temperatures: {found}")
    for problem in calibration.problems:
        print(problem)
    for split in (split for split in splits if "coverage" in record[split]):
        given, right = (record[split][name] for name in ("coverage", "answered_accuracy"))
        print(
            f"Of {split}, {given:.1%} have an answer of a probability of {record['abstain_below']:.3f} or more"
            + (f"; {right:.1%} of these are right." if given else ".")
        )
    if args.target_accuracy is not None and record["abstain_below"] is None:
        print(f"All answers together reach {args.target_accuracy:g} on validation: none is unsure.")
    if (folder / METRICS_FILE).is_file() and not (folder / PREDICTIONS_FILE).is_file():
        print("The other metrics in metrics.json and the card are from before; `hf-fusion evaluate` gives new ones.")
    for evaluation in sorted(folder.glob("evaluation-*")):
        print(f"{evaluation} is from before; `hf-fusion evaluate` writes it again.")
    print(f"Calibrated: {folder}")
    print_written(folder / CALIBRATION_FOLDER)
