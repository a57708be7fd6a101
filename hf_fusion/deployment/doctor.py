"""Examines a checkpoint and the environment that loads it: files, configuration, code, weights, processor, answers."""

import importlib.metadata
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import snapshot_download
from packaging.requirements import Requirement
from safetensors import safe_open
from transformers import AutoConfig, AutoProcessor
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

import hf_fusion.models
from hf_fusion.deployment.adapters import find_base, is_adapter, load_adapter
from hf_fusion.deployment.sample_answers import check_answers, sample_answers, sample_inputs
from hf_fusion.deployment.whole_model import load_whole_model
from hf_fusion.hub.checkpoint_names import check_checkpoint_name
from hf_fusion.hub.repository import CHECKPOINT_FILES, CODE, RECORDS, check_complete, needed_code, select_files
from hf_fusion.models.modeling_fingerprint import changed_weights, read_fingerprint, sample_weights
from hf_fusion.models.pipeline_fusion_sentiment import FusionSentimentPipeline
from hf_fusion.utils.errors import DataError
from hf_fusion.utils.quiet import quiet_libraries
from hf_fusion.utils.records import ENVIRONMENT_FILE, installed_version
from hf_fusion.utils.versions import OLDEST_TORCH, OLDEST_TRANSFORMERS, SOUND_TRANSFORMERS, version_pair

OK, WARNING, FAULT, SKIPPED = "ok", "warning", "fault", "skipped"

# Answers of two processes on the same machine agree by far better.
_TOLERANCE = 1e-4
_UNLISTED_EXTRAS = ("all", "dev", "docs", "test")
# Loads a checkpoint by its own code, without this package.
_STRANGER = """
import json, sys
sys.modules["hf_fusion"] = None
import numpy as np
from transformers import pipeline
classify = pipeline("fusion-sentiment", model=sys.argv[1], trust_remote_code=True, device="cpu")
clips = [{name: value if name == "text" else np.asarray(value, np.float32) for name, value in clip.items()}
         for clip in json.load(open(sys.argv[2]))]
print("ANSWERS", json.dumps(classify(clips)))
"""


@dataclass(frozen=True)
class Finding:
    """
    The result of one check.

    Args:
        check (`str`): such as "weights".
        status (`str`): "ok", "warning", "fault", or "skipped" if the check needs another one to succeed.
        message (`str`): what was found, and what to do about it.
    """

    check: str
    status: str
    message: str


def examine(checkpoint: str, trust_remote_code: bool = False, revision: str | None = None) -> list[Finding]:
    """
    Examines a checkpoint and this environment.

    Args:
        checkpoint (`str`): a folder, also one with a LoRA adapter, or a name on the Hub.
        trust_remote_code (`bool`, *optional*, defaults to `False`): whether to load the checkpoint by the code in it
            too, in a process without this package, and compare the answers.
        revision (`str`, *optional*): branch, tag or commit of a name on the Hub.

    Returns:
        `list[Finding]`: one for each check, in their order.

    Raises:
        OSError: if there is no such checkpoint.

    Example:

    ```python
    from hf_fusion import DyFuLMConfig, DyFuLMForSequenceClassification, DyFuLMProcessor
    from hf_fusion.data.tokenizers import train_tokenizer
    from hf_fusion.deployment.doctor import examine

    encoder = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = DyFuLMForSequenceClassification(DyFuLMConfig(encoder_a_config=encoder, encoder_b_config=encoder))
    model.save_pretrained("mine")
    DyFuLMProcessor(train_tokenizer(["The bed was good."], "wordpiece", 100)).save_pretrained("mine")
    [finding for finding in examine("mine") if finding.status == "fault"]
    ```
    """
    check_checkpoint_name(checkpoint)
    folder = _local_folder(checkpoint, revision)
    findings = [
        _run("versions", _check_versions),
        _run("devices", _list_devices),
        _run("extras", _list_extras),
        _run("files", _check_files, folder),
        _run("configuration", _check_configuration, folder),
        _run("code", _check_code, folder),
    ]
    with quiet_libraries():
        model, processor = _Loaded(), _Loaded()
        findings += [
            _run("weights", _check_weights, folder, model),
            _run("values", _check_values, folder, model),
            _run("fingerprint", _check_weight_fingerprint, folder, model),
            _run("tokenizers", _check_tokenizers, folder, model, processor),
            _run("answers", _check_answers, folder, model, processor),
        ]
        if trust_remote_code:
            findings.append(_run("remote code", _check_remote_code, folder, model, processor))
    return findings


class _Skipped(Exception):
    """A check that needs something which an earlier one found broken."""


class _Loaded:
    """The model or the processor, once a check has loaded it."""

    value = None

    def get(self):
        if self.value is None:
            raise _Skipped("not loaded, see above")
        return self.value


def _run(name: str, check: Callable[..., tuple[str, str]], *arguments) -> Finding:
    try:
        return Finding(name, *check(*arguments))
    except _Skipped as reason:
        return Finding(name, SKIPPED, str(reason))
    except Exception as error:  # damaged files make the libraries fail in many ways
        return Finding(name, FAULT, " ".join(str(error).split())[:600] or type(error).__name__)


def _local_folder(checkpoint, revision):
    if Path(checkpoint).is_dir():
        return Path(checkpoint)
    patterns = [*CHECKPOINT_FILES, *(f"*/{name}" for name in CHECKPOINT_FILES), *CODE, *RECORDS]
    return Path(snapshot_download(checkpoint, revision=revision, allow_patterns=patterns))


def _check_versions():
    versions = {name: installed_version(name) for name in ("hf-fusion", "torch", "transformers", "tokenizers")}
    text = ", ".join(["python {}.{}.{}".format(*sys.version_info), *(f"{name} {versions[name]}" for name in versions)])
    for name, oldest in (("torch", OLDEST_TORCH), ("transformers", OLDEST_TRANSFORMERS)):
        if version_pair(versions[name]) < oldest:
            needed = ".".join(map(str, oldest))
            return FAULT, f"{text}. {name} {needed} or newer is needed: pip install --upgrade '{name}>={needed}'"
    if version_pair(versions["transformers"]) < SOUND_TRANSFORMERS:
        return WARNING, (
            f"{text}. Versions of transformers before {'.'.join(map(str, SOUND_TRANSFORMERS))} can give weights of "
            "custom models new values while loading, without a message. The checks of weights below show whether it "
            "happened here."
        )
    return OK, text


def _list_devices():
    devices = [f"cpu with {torch.get_num_threads()} threads"]
    devices += [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return OK, ", ".join(devices)


def _list_extras():
    missing = _missing_packages()
    installed = ", ".join(sorted(name for name, packages in missing.items() if not packages)) or "none"
    others = "; ".join(f"{name} (lacks {', '.join(packages)})" for name, packages in missing.items() if packages)
    advice = f"; not installed: {others}. To install one: pip install 'hf-fusion[NAME]'" if others else ""
    return OK, f"installed: {installed}{advice}"


def _missing_packages() -> dict[str, list[str]]:
    """Returns the packages of each extra that are not installed."""
    try:
        metadata = importlib.metadata.metadata("hf-fusion")
    except importlib.metadata.PackageNotFoundError as error:
        raise _Skipped("hf-fusion is not installed as a package, so that its extras are not known") from error
    requirements = [Requirement(text) for text in metadata.get_all("Requires-Dist") or ()]
    return {
        extra: [
            requirement.name
            for requirement in requirements
            if requirement.marker is not None
            and requirement.marker.evaluate({"extra": extra})
            and not requirement.marker.evaluate({"extra": ""})
            and requirement.name != "hf-fusion"
            and installed_version(requirement.name) is None
        ]
        for extra in sorted(set(metadata.get_all("Provides-Extra") or ()) - set(_UNLISTED_EXTRAS))
    }


def _check_files(folder):
    files = select_files(folder)
    check_complete(files)
    size = sum(path.stat().st_size for path in files.values())
    return OK, f"{len(files)} files, {size / 1e6:.1f} MB; none is missing"


def _check_configuration(folder):
    place = folder if (folder / "config.json").is_file() else folder / "base"
    if not (place / "config.json").is_file():
        return OK, "that of the base model, which adapter_config.json names"
    config = AutoConfig.from_pretrained(place, trust_remote_code=False)
    heads = ", ".join(head.task for head in config.heads.values())
    media = _check_media(folder)
    return (WARNING if media else OK), f"{type(config).__name__}, with the heads {heads}{media}"


def _check_media(folder):
    """Says whether the checkpoint reads media files, for which a package is missing."""
    path = folder / "processor_config.json"
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    reads_media = isinstance(content, dict) and (content.get("feature_extractor") or {}).get("media") is not None
    if not reads_media or find_spec("av") is not None:
        return ""
    return "; it reads media files, which needs av: pip install 'hf-fusion[media]'"


def _check_code(folder):
    files, own = select_files(folder), Path(hf_fusion.models.__file__).parent
    names = sorted(name for name in needed_code(files) if name in files)
    if not names:
        return OK, "none, a LoRA adapter runs the code of its base model"
    changed = [name for name in names if not _is_same(files[name], own / name)]
    package = f"hf-fusion {installed_version('hf-fusion')}"
    if not changed:
        return OK, f"{len(names)} files, equal to those of {package}"
    return WARNING, (
        f"{len(changed)} of {len(names)} files differ from those of {package}, such as {changed[0]}: the checkpoint "
        f"was saved by another version or commit{_saved_by(folder)}, or they were changed. hf_fusion runs its own "
        "code, trust_remote_code=True that of the checkpoint. To renew it, save the pipeline again: "
        "`load_pipeline(FOLDER).save_pretrained(FOLDER)`."
    )


def _is_same(path, other):
    return other.is_file() and path.read_bytes() == other.read_bytes()


def _saved_by(folder):
    """Names the version that trained the checkpoint, if its records do."""
    path = folder / ENVIRONMENT_FILE
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    version = content.get("versions", {}).get("hf-fusion") if isinstance(content, dict) else None
    return f" ({version})" if version else ""


def _check_weights(folder, model):
    if is_adapter(str(folder)):
        model.value = load_adapter(str(folder)).merge_and_unload().eval()
    else:
        model.value = load_whole_model(folder)
    return OK, (
        f"{type(model.value).__name__}, {model.value.num_parameters():,} parameters: none is missing, unexpected, of "
        "another shape, NaN or infinite"
    )


def _check_values(folder, model):
    """Compares every tensor of the model with its file; weights of earlier versions have other names."""
    if is_adapter(str(folder)):
        model.get()
        return SKIPPED, "a LoRA adapter changes the weights of its base model"
    weights, same, changed, others = model.get().state_dict(), 0, [], 0
    for name, saved in _saved_tensors(folder):
        if name not in weights:
            others += 1
        elif torch.equal(saved.to(weights[name].dtype), weights[name]):
            same += 1
        else:
            changed.append(name)
    if changed:
        raise DataError(
            f"{len(changed)} tensors differ after loading from those in the file, such as {changed[0]}: transformers "
            f"{installed_version('transformers')} gave them new values. Install a newer version: "
            "pip install --upgrade transformers"
        )
    return OK, f"{same} tensors are those of the file{f', {others} have names of an earlier version' * bool(others)}"


def _saved_tensors(folder) -> Iterator[tuple[str, torch.Tensor]]:
    """Reads the files that loading reads: copies in other types and shards of an earlier time may lie beside them."""
    files = {SAFE_WEIGHTS_NAME}
    if not (folder / SAFE_WEIGHTS_NAME).is_file():
        index = json.loads((folder / SAFE_WEIGHTS_INDEX_NAME).read_text(encoding="utf-8"))
        files = set(index["weight_map"].values())
    for file in sorted(files):
        with safe_open(folder / file, framework="pt") as content:
            for name in content.keys():  # noqa: SIM118 - no mapping
                yield name, content.get_tensor(name)


def _check_weight_fingerprint(folder, model):
    has_adapter = is_adapter(str(folder))
    place, revision = find_base(str(folder)) if has_adapter else (folder, None)
    fingerprint = read_fingerprint(place, revision=revision)
    model.get()
    if fingerprint is None:
        return WARNING, (
            f"none{' of the base model' * has_adapter}, which was saved by an earlier version: loading cannot notice "
            "weights that are not those that were saved. Saving the model again writes one."
        )
    if has_adapter:
        return OK, f"that of the base model, {len(fingerprint)} tensors, was compared at loading"
    weights = sample_weights(model.get())
    if changed := changed_weights(fingerprint, weights):
        raise DataError(f"{len(changed)} tensors differ from the fingerprint, such as {changed[0]}.")
    known = len(fingerprint.keys() & weights.keys())
    if known < len(fingerprint):
        return WARNING, f"{known} of {len(fingerprint)} tensors match; the model has no others of these names"
    return OK, f"{known} tensors match"


def _check_tokenizers(folder, model, processor):
    processor.value = AutoProcessor.from_pretrained(folder, trust_remote_code=False)  # compares the fingerprints
    tokenizers = getattr(processor.value, "tokenizers", None) or [processor.value.tokenizer]
    for tokenizer, (name, encoder) in zip(tokenizers, model.get().base_model.encoders.items(), strict=False):
        size, highest = encoder.get_input_embeddings().num_embeddings, max(tokenizer.get_vocab().values())
        if highest >= size:
            raise DataError(
                f"The tokenizer of encoder {name} has the token id {highest}, the encoder has {size} tokens."
            )
    saved = json.loads((folder / "processor_config.json").read_text(encoding="utf-8"))
    if saved.get("vocabulary_fingerprint") is None:
        return WARNING, f"{len(tokenizers)} without a fingerprint of the vocabulary: saving the processor writes it"
    return OK, f"{len(tokenizers)}, whose vocabularies are those that the model was trained with"


def _check_answers(folder, model, processor):
    answers = sample_answers(model.get(), processor.get())
    if broken := [name for name, values in answers.items() if not np.isfinite(values).all()]:
        raise DataError(f"The model answers NaN or infinite values ({broken[0]}).")
    as_recorded = check_answers(str(folder), model.get(), processor.get())
    return OK, f"finite{', and those that the training recorded' * as_recorded}"


def _check_remote_code(folder, model, processor):
    """Loads the checkpoint without this package, and compares its answers with those by this package's code."""
    if is_adapter(str(folder)):
        return SKIPPED, "a LoRA adapter has no code: examine its base model"
    clips = sample_inputs(model.get().config)
    classify = FusionSentimentPipeline(model.get(), processor=processor.get(), device="cpu")
    ours = classify(clips, return_truncated=True)  # without a warning
    text = json.dumps([{name: np.asarray(value).tolist() for name, value in clip.items()} for clip in clips])
    with tempfile.TemporaryDirectory() as place:
        Path(place, "clips.json").write_text(text)
        environment = {**os.environ, "HF_MODULES_CACHE": f"{place}/modules", "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-c", _STRANGER, str(folder.resolve()), f"{place}/clips.json"]
        process = subprocess.run(command, env=environment, cwd=place, capture_output=True, text=True, check=False)
    lines = [line for line in process.stdout.splitlines() if line.startswith("ANSWERS ")]
    if not lines:
        reason = " ".join(process.stderr.split()[-60:])
        raise DataError(f"The code of the checkpoint cannot be run: ... {reason}")
    theirs = json.loads(lines[-1].removeprefix("ANSWERS "))
    if not _agree(ours, theirs):
        raise DataError(
            "The code of the checkpoint gives other answers than hf_fusion. If the code differs (see above), save the "
            "pipeline again."
        )
    return OK, "loads without hf_fusion, and gives the same answers"


def _agree(ours, theirs):
    """Whether two answers have the same fields, labels and numbers; fields of a later version may be missing."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        return all(name in ours and _agree(ours[name], theirs[name]) for name in theirs)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_agree, ours, theirs))
    if isinstance(ours, float) and isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    return ours == theirs
