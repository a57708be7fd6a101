"""Recompute the numbers of results, model cards and pages.

    hf-fusion verify
    hf-fusion verify runs/dyfulm_synthetic runs/study_mine
    hf-fusion verify README.md --prose
    hf-fusion verify model_cards/results/ablation_dyfulm_sst.json --output verification.json

FILE is a result file of a command (.json), a run folder, a model card or a page (.md), or a folder with any of them;
without FILE it is README.md, docs and model_cards of the working directory. Every number rests on one of

  predictions   kept predictions, from which it was recomputed
  record        a result file that a command wrote, without predictions; means, deviations, intervals and p-values are
                recomputed from the metrics of its runs
  nothing       no file that is here

Recomputed are the metrics of run folders and studies, the tables beside a study (.csv, .md, .tex), model cards, and
tables of pages marked <!-- table: ... -->; checked are hashes, data fingerprints and, in the repository of hf_fusion,
commits. A line is printed for each number that disagrees beyond its printed digits. Exit status: 0 all agree,
1 numbers disagree, 2 a file cannot be read.
"""

from pathlib import Path

from hf_fusion.cli.arguments import make_parser


def main(argv: list[str]) -> int:
    """Runs `hf-fusion verify`."""
    args = parse_args(argv)
    from tqdm import tqdm

    from hf_fusion.studies.verification import describe, verify
    from hf_fusion.utils.records import write_json

    checked = verify(args.files, track=lambda files: tqdm(files, desc="verify", unit="file", leave=False))
    print_counts(checked)
    if args.prose:
        print_prose(checked)
    wrong = [f"{checks.path}: {disagreement}" for checks in checked for disagreement in checks.disagreements]
    print(*wrong, sep="\n", end="\n" if wrong else "")
    print_total(checked)
    if args.output:
        write_json(args.output, describe(checked))
        print(f"Written: {args.output}")
    return int(bool(wrong))


def parse_args(argv):
    """Parses the command line."""
    parser = make_parser("verify", __doc__)
    parser.add_argument(
        "files", nargs="*", type=Path, metavar="FILE",
        help="result files, run folders, model cards, pages, or folders (default: README.md, docs and model_cards)",
    )  # fmt: skip
    parser.add_argument(
        "--prose", action="store_true",
        help="list decimals in sentences, each with a number of a record that it could rest on; changes no exit status",
    )  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, help="JSON file for all counts, notes and disagreements")
    return parser.parse_args(argv)


def print_counts(checked):
    """Prints a line for each file with numbers."""
    shown = [checks for checks in checked if checks.counts or checks.disagreements or checks.remarks]
    width = max((len(str(checks.path)) for checks in shown), default=0)
    for checks in shown:
        words = [", ".join(f"{number:,} {basis}" for basis, number in checks.counts.items() if number)]
        if checks.disagreements:
            words.append(f"{len(checks.disagreements)} disagree")
        if checks.later_changes:
            words.append(f"commit {checks.commits[0][:7]}, {checks.later_changes} later ones change the package")
        print(f"{checks.path!s:{width}}  {'; '.join(filter(None, [*words, *checks.remarks]))}")


def print_prose(checked):
    """Prints the decimals in prose, those without a record last."""
    for checks in checked:
        for number in sorted(checks.prose, key=lambda number: number["basis"] is None):
            basis = f"could rest on {number['basis']}" if number["basis"] else (
                "rests on nothing in the records that the page names"
            )  # fmt: skip
            print(f"{checks.path}, line {number['line']}: {number['number']} {basis}")


def print_total(checked):
    """Prints the sums over all files."""
    from collections import Counter

    from hf_fusion.studies.verification import BASES

    counts = sum((checks.counts for checks in checked), Counter())
    wrong = sum(len(checks.disagreements) for checks in checked)
    words = ", ".join(f"{counts[basis]:,} on {basis}" for basis in BASES)
    print(f"{len(checked)} files, {counts.total():,} numbers rest: {words}. {wrong} disagree.")
