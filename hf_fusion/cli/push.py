"""Publish a run folder on the Hub, as one commit.

    hf-fusion push runs/mine me/my-dyfulm --dry_run      # loads it and lists what would be uploaded
    hf-fusion push runs/mine me/my-dyfulm --private
    hf-fusion push runs/lora/base me/my-base              # the base model of a LoRA adapter, first
    hf-fusion push runs/lora me/my-lora --base_model me/my-base
    hf-fusion push runs/mine me/my-dyfulm --space me/my-demo   # and a Space with the page of `hf-fusion demo`
    hf-fusion push runs/mine me/my-dyfulm --language en --carbon_intensity 380 --collection "My models"

Weights, code, processor, pipeline, model card, records and figures are published; training states, logs and pickles
are not. Log in first with `hf auth login`, or set HF_TOKEN to a token with write access. You only need transformers
to load the repository; the command prints the code, with the revision to pin. --language, --new_version and
--carbon_intensity (or --country) add facts to the card that the run does not record; what is missing is said.
"""

from hf_fusion.cli.arguments import make_parser


def main(argv: list[str]) -> None:
    """Runs `hf-fusion push`."""
    args = parse_args(argv)

    from hf_fusion.deployment.loading import load_checkpoint
    from hf_fusion.deployment.sample_answers import check_answers
    from hf_fusion.hub.model_card import describe_gaps, model_card
    from hf_fusion.hub.publish import add_to_collection, check_details, has_written_card, publish, written_files
    from hf_fusion.hub.repository import check_repository
    from hf_fusion.hub.space import publish_space, space_files
    from hf_fusion.utils.quiet import silence_libraries

    silence_libraries()
    details = _read_details(args)
    files = check_repository(args.folder, args.repo_id, args.base_model)
    check_details(args.folder, files, details)
    _print_files(files, written_files(files, args.base_model))
    model, processor = load_checkpoint(args.folder, base_model=args.base_model)
    _print_model(model, check_answers(args.folder, model, processor))
    if args.space:
        _print_space(args.space, space_files(args.folder, args.repo_id, args.space))
    if args.dry_run:
        if has_written_card(files):
            print(*describe_gaps(model_card(args.folder, args.repo_id, args.base_model, details=details)), sep="\n")
        return
    commit = publish(
        args.folder, args.repo_id, args.private, args.revision, args.message, args.create_pr, args.base_model,
        details=details,
    )  # fmt: skip
    print(f"Published: {commit.pr_url or commit.commit_url}")
    if args.collection:
        print(f"In the collection {add_to_collection(args.repo_id, args.collection, args.private)}")
    if args.base_model:
        print(f'PeftModel.from_pretrained(model, "{args.repo_id}", revision="{commit.oid}")')
    else:
        pinned = f'revision="{commit.oid}", code_revision="{commit.oid}"'
        print(f'pipeline("fusion-sentiment", model="{args.repo_id}", trust_remote_code=True, {pinned})')
    if args.space:
        print(f"The Space: {publish_space(args.folder, args.repo_id, args.space, args.private).commit_url}")


def parse_args(argv):
    """Parses the command line."""
    parser = make_parser("push", __doc__)
    parser.add_argument("folder", help="a run folder, or any folder with a complete checkpoint")
    parser.add_argument("repo_id", help="name on the Hub: USER/NAME or ORGANISATION/NAME")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument("--revision", help="branch to commit to, created if it does not exist (default: main)")
    parser.add_argument("--message", default="Upload a checkpoint", help="commit message")
    parser.add_argument("--create_pr", action="store_true", help="open a pull request instead of committing")
    parser.add_argument("--base_model", help="for a LoRA adapter: the repository of its base model")
    parser.add_argument("--space", metavar="USER/NAME", help="also publish a Space that shows the checkpoint")
    parser.add_argument("--collection", help="add it to this collection: a slug, or a title, created if there is none")
    card = parser.add_argument_group("model card")
    card.add_argument(
        "--language", nargs="+", default=[], metavar="CODE",
        help="languages of the texts: en, zh ... (default: that of the recipe or of the data set on the Hub)",
    )  # fmt: skip
    card.add_argument("--new_version", help="the repository of the model that replaces this one")
    electricity = card.add_mutually_exclusive_group()
    electricity.add_argument(
        "--carbon_intensity", type=float, metavar="GRAMS",
        help="grams of CO2 for a kilowatt hour where it was trained, for an estimate of the emissions",
    )  # fmt: skip
    electricity.add_argument(
        "--country", help="or the country, by its code of three letters: DEU ...; needs the extra carbon"
    )
    card.add_argument("--watts", type=float, help="power of the hardware (default: of its kind, at full load)")
    parser.add_argument(
        "--dry_run", action="store_true", help="list the files and check the checkpoint, upload nothing"
    )
    args = parser.parse_args(argv)
    if args.space and (args.revision or args.create_pr):
        parser.error("--space shows the main branch: leave --revision and --create_pr out.")
    return args


def _print_space(name, files):
    print(f"\nThe Space {name}:")
    for file, content in files.items():
        print(f"\n--- {file}\n{content}", end="")
    print()


def _read_details(args):
    from hf_fusion.hub.emissions import read_intensity
    from hf_fusion.hub.model_card import CardDetails

    country = args.country and args.country.upper()
    intensity = read_intensity(country) if country else args.carbon_intensity
    return CardDetails(
        tuple(args.language), new_version=args.new_version, carbon_intensity=intensity, country=country,
        watts=args.watts,
    )  # fmt: skip


def _print_files(files, written):
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table

    table = Table("file", "size", title="Files to publish")
    for name, path in files.items():
        if name not in written:
            table.add_row(name, decimal(path.stat().st_size))
    for name in written:
        table.add_row(name, "written")
    Console().print(table)


def _print_model(model, has_answers):
    fields = getattr(model.config, "usual_names", ("id2label",))
    heads = (getattr(model.config, field) for field in fields)
    names = "; ".join(", ".join(classes.values()) for classes in heads if classes)
    print(f"Loads as {type(model).__name__} with {model.num_parameters():,} weights and the classes {names}.")
    print(
        "Its outputs equal those after training."
        if has_answers
        else "Its training recorded no outputs to compare with."
    )
