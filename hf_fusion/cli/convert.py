"""Convert a checkpoint of the DashFusion authors to this package.

    hf-fusion convert released.pth converted --tokenizer google-bert/bert-base-uncased

The file is read as plain weights; nothing in it is executed. The converted model has the same outputs for clips
without padding. In padded batches the released code attends to the padding; this package masks it.
"""

import sys

from hf_fusion.cli.arguments import make_parser


def main(argv: list[str]) -> None:
    """Runs `hf-fusion convert`."""
    args = parse_args(argv)
    from hf_fusion.architectures.convert_checkpoint import convert_checkpoint
    from hf_fusion.utils.quiet import silence_libraries

    silence_libraries()
    model, has_text_weights = convert_checkpoint(**vars(args))
    print(f"Written: {args.folder} ({sum(p.numel() for p in model.parameters()):,} parameters)")
    if not has_text_weights:
        print("The file has no weights of the text encoder: they are random.", file=sys.stderr)


def parse_args(argv):
    """Parses the command line."""
    parser = make_parser("convert", __doc__)
    parser.add_argument("weights", help="state dict of the authors' model (.pt, .pth or .safetensors)")
    parser.add_argument("folder", help="folder for the converted checkpoint")
    parser.add_argument("--tokenizer", help="name or folder of the text encoder's tokenizer; saves the processor too")
    parser.add_argument(
        "--text_encoder", help="name or folder of the text encoder's configuration (default: BERT, from the weights)"
    )
    parser.add_argument("--num_heads", type=int, default=8, help="attention heads (default: 8, as in the paper)")
    parser.add_argument("--num_bottleneck_tokens", type=int, default=8, help="default: 8, as in the paper")
    parser.add_argument(
        "--label_range", nargs=2, type=float, default=(-3.0, 3.0), metavar=("LOW", "HIGH"), help="CH-SIMS: -1 1"
    )
    parser.add_argument(
        "--named_order",
        action="store_true",
        help="the fusion was trained without exchanging audio and vision (the released code exchanges them)",
    )
    return parser.parse_args(argv)
