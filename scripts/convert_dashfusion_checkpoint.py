#!/usr/bin/env python
"""Turns a checkpoint of the DashFusion authors' code into one of this package, with its processor.

    python scripts/convert_dashfusion_checkpoint.py released.pth converted --tokenizer google-bert/bert-base-uncased

The file is read as plain weights; nothing in it is executed. The converted model computes the same on clips without
padding. On padded batches the released code lets padding take part, this one does not.
"""

import _path  # noqa: F401, I001 - before the library `evaluate` is looked for

import argparse
import sys

from transformers import AutoTokenizer

from hf_fusion import DashFusionFeatureExtractor, DashFusionProcessor
from hf_fusion.deployment.released_weights import (
    ConversionError,
    convert_released_weights,
    load_released_weights,
    released_text_config,
)
from hf_fusion.architectures.encoders import resolve_name


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", help="state dict of the authors' model (.pt, .pth or .safetensors)")
    parser.add_argument("folder", help="where the converted checkpoint goes")
    parser.add_argument("--tokenizer", help="name or folder of the text encoder's tokenizer; saves the processor too")
    parser.add_argument(
        "--text_encoder", help="name or folder of the text encoder's configuration (default: BERT, from the weights)"
    )
    parser.add_argument("--num_heads", type=int, default=8, help="attention heads (default: 8, the paper's)")
    parser.add_argument("--num_bottleneck_tokens", type=int, default=8, help="default: 8, the paper's")
    parser.add_argument(
        "--label_range", nargs=2, type=float, default=(-3.0, 3.0), metavar=("LOW", "HIGH"), help="CH-SIMS: -1 1"
    )
    parser.add_argument(
        "--named_order",
        action="store_true",
        help="the fusion was called with audio and vision in their own places (the released code exchanges them)",
    )
    return parser.parse_args()


def processor_for(config, tokenizer):
    """The processor of a converted model; its features pass as they are."""
    if len(tokenizer) > config.text_config.vocab_size:
        raise ConversionError(
            f"The tokenizer has {len(tokenizer)} pieces, the text encoder {config.text_config.vocab_size}: it is "
            "another model's."
        )
    sizes = (config.audio_feature_size, config.vision_feature_size, config.max_audio_length, config.max_vision_length)
    return DashFusionProcessor(tokenizer, DashFusionFeatureExtractor(*sizes))


def main() -> int:
    args = parse_args()
    try:
        tokenizer = args.tokenizer and AutoTokenizer.from_pretrained(resolve_name(args.tokenizer))
        weights = load_released_weights(args.weights)
        name = args.text_encoder and resolve_name(args.text_encoder)
        model = convert_released_weights(
            weights,
            released_text_config(weights, name),
            args.num_heads,
            exchanged=not args.named_order,
            num_bottleneck_tokens=args.num_bottleneck_tokens,
            label_range=args.label_range,
        )
        processor = tokenizer and processor_for(model.config, tokenizer)
    except (ValueError, OSError) as error:  # also what the tokenizer's library raises
        print(f"convert_dashfusion_checkpoint.py: {error}", file=sys.stderr)
        return 2
    model.save_pretrained(args.folder)
    if processor:
        processor.save_pretrained(args.folder)
    print(f"Written: {args.folder} ({sum(p.numel() for p in model.parameters()):,} parameters)")
    if not any("text_encoder.extractor." in name for name in weights):
        print("The file has no weights of the text encoder: they are random.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
