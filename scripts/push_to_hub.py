#!/usr/bin/env python
"""Publishes a run folder on the Hub, as one commit: weights, code, processor, pipeline, model card, records, pictures.

    python scripts/push_to_hub.py runs/mine me/my-dyfulm --dry_run      # loads it and lists what would be uploaded
    python scripts/push_to_hub.py runs/mine me/my-dyfulm --private
    python scripts/push_to_hub.py runs/lora/base me/my-base              # of a LoRA run that was not merged: first
    python scripts/push_to_hub.py runs/lora me/my-lora --base_model me/my-base

Log in before with `hf auth login`, or set HF_TOKEN to a token that may write. Whoever loads the repository needs
nothing but transformers; the command prints how, with the revision to pin. Training states, logs and pickles stay here.
"""

import _path  # noqa: F401, I001 - before the library `evaluate` is looked for

import argparse
import sys

from huggingface_hub.utils import validate_repo_id
from huggingface_hub.errors import HFValidationError
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from hf_fusion.utils.errors import DataError
from hf_fusion.deployment.loading import load_checkpoint
from hf_fusion.deployment.sample_answers import check_answers
from hf_fusion.hub.publish import publish
from hf_fusion.hub.repository import PublishError, check_base_model, check_complete, repository_files


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="a run folder, or any folder with a complete checkpoint")
    parser.add_argument("repo_id", help="name on the Hub: USER/NAME or ORGANISATION/NAME")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument("--revision", help="branch to commit to, made if it does not exist (default: main)")
    parser.add_argument("--message", default="Upload a checkpoint", help="of the commit")
    parser.add_argument("--create_pr", action="store_true", help="open a pull request instead of committing")
    parser.add_argument("--base_model", help="of a LoRA adapter: the repository with the model it was trained on")
    parser.add_argument(
        "--dry_run", action="store_true", help="list the files and check the checkpoint, upload nothing"
    )
    return parser.parse_args()


def print_files(files, console):
    table = Table("file", "size", title="Belongs into the repository")
    for name, path in files.items():
        table.add_row(name, decimal(path.stat().st_size))
    console.print(table)


def check_loads(folder, base_model):
    """Loads the folder, compares its answers with those of the training, and says what it is."""
    model, processor = load_checkpoint(folder, base_model=base_model)
    recorded = check_answers(folder, model, processor)
    fields = getattr(model.config, "usual_names", ("id2label",))
    names = "; ".join(", ".join(getattr(model.config, field).values()) for field in fields)
    print(f"Loads as {type(model).__name__} with {model.num_parameters():,} weights and the classes {names}.")
    print("Answers as it did after training." if recorded else "Its training recorded no answers to compare with.")


def main() -> int:
    args = parse_args()
    try:
        validate_repo_id(args.repo_id)
        files = repository_files(args.folder)
        check_complete(files)
        check_base_model(files, args.folder, args.base_model)
        print_files(files, Console())
        check_loads(args.folder, args.base_model)
        if args.dry_run:
            return 0
        commit = publish(
            args.folder, args.repo_id, args.private, args.revision, args.message, args.create_pr, args.base_model
        )
    except (PublishError, DataError, HFValidationError, OSError, ImportError) as error:
        print(f"push_to_hub.py: {error}", file=sys.stderr)
        return 2
    print(f"Published: {commit.pr_url or commit.commit_url}")
    pinned = f'revision="{commit.oid}", code_revision="{commit.oid}"'
    if args.base_model:
        print(f'PeftModel.from_pretrained(model, "{args.repo_id}", revision="{commit.oid}")')
    else:
        print(f'pipeline("fusion-sentiment", model="{args.repo_id}", trust_remote_code=True, {pinned})')
    return 0


if __name__ == "__main__":
    sys.exit(main())
