"""The notebook of a repository: loads the checkpoint and asks it, cell by cell."""

import json
from collections.abc import Mapping
from typing import Any

NOTEBOOK_FILE = "notebook.ipynb"

_TEXTS = ("The room was not clean, but the staff made up for it.", "It broke on the second day.")


def make_notebook(facts: Mapping[str, Any]) -> dict[str, Any]:
    """
    Creates the notebook of a checkpoint, in the format 4.5 of Jupyter.

    Args:
        facts (`Mapping`): `name` (of the repository), `base_model` and `base_revision` (of a LoRA adapter, else
            `None`), `reads_clips` (`bool`), `shapes` (frames and features of each modality with frames), `has_text`
            (`bool`) and `has_classes` (`bool`).

    Returns:
        `dict`: the content of the file. Its code needs transformers and torch, and peft for an adapter.
    """
    cells = [
        _markdown(
            f"# {facts['name']}\n\nNeeds `pip install transformers torch{' peft' * bool(facts['base_model'])}`. "
            "`trust_remote_code=True` runs the code of the repository: read it first."
        ),
        _code(_loading(facts)),
        _markdown("Ask it. The answers come in the order of the inputs."),
        _code(f"{_inputs(facts)}\nfor answer in classify(inputs):\n    print(answer)"),
    ]
    if facts["has_classes"]:
        cells += [
            _markdown("All classes with their probabilities, best first."),
            _code("for answer in classify(inputs[0], top_k=None):\n    print(answer)"),
        ]
    return {
        "cells": [{**cell, "id": f"cell-{number}"} for number, cell in enumerate(cells)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _loading(facts):
    if facts["base_model"]:
        pin = json.dumps(facts["base_revision"])
        return (
            "from peft import PeftModel\nfrom transformers import pipeline\n\n"
            f'classify = pipeline("fusion-sentiment", model={json.dumps(facts["base_model"])}, trust_remote_code=True, '
            f"revision={pin}, code_revision={pin})\n"
            f"adapted = PeftModel.from_pretrained(classify.model, {json.dumps(facts['name'])})\n"
            "classify.model = adapted.merge_and_unload()"
        )
    return (
        "from transformers import pipeline\n\n"
        f'classify = pipeline("fusion-sentiment", model={json.dumps(facts["name"])}, trust_remote_code=True)'
    )


def _inputs(facts):
    if not facts["reads_clips"]:
        return f"inputs = {json.dumps(list(_TEXTS))}"
    fields = [f'"text": {json.dumps(_TEXTS[0])}'] if facts["has_text"] else []
    fields += [f'"{name}": np.zeros({shape})' for name, shape in facts["shapes"].items()]
    return (
        "import numpy as np\n\n# frames (frames, features) come from the feature extractor of the data; zeros here\n"
        f"inputs = [{{{', '.join(fields)}}}]"
    )


def _markdown(text):
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def _code(text):
    return {"cell_type": "code", "metadata": {}, "source": text, "outputs": [], "execution_count": None}
