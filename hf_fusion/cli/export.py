"""Export a checkpoint to ONNX, for use without torch.

    hf-fusion export runs/dyfulm_synthetic exported/dyfulm
    hf-fusion export runs/dyfulm_synthetic exported/dyfulm_int8 --int8
    hf-fusion export runs/dashfusion_mosi exported/dashfusion --checks 1000

The folder holds graph, tokenizers, settings and onnx_fusion.json (labels, inputs with their axes, limits, opset,
versions). Batch and lengths are dynamic. In Python:

    from hf_fusion.deployment import OnnxFusion
    classify = OnnxFusion.from_pretrained("exported/dyfulm")

The float32 graph is compared with PyTorch on batches with random rows, lengths, padding and missing modalities. If
any output differs by more than 1e-4, the command fails and writes nothing. --int8 quantises the weights of linear
layers to 8 bits, which costs some accuracy.
"""

import sys
from functools import partial

from hf_fusion.cli.arguments import make_parser


def main(argv: list[str]) -> None:
    """Runs `hf-fusion export`."""
    args = parse_args(argv)
    from tqdm import tqdm

    from hf_fusion.deployment.onnx_export import export_onnx, silence_exporter
    from hf_fusion.deployment.predictions import load_pipeline
    from hf_fusion.utils.quiet import silence_libraries

    silence_libraries()
    silence_exporter()
    classify = load_pipeline(args.checkpoint, device="cpu")
    print(f"Exporting {args.checkpoint}: a minute or more.", file=sys.stderr)
    track = partial(tqdm, desc="comparing with PyTorch", unit="batch", file=sys.stderr)
    done = export_onnx(classify.model, classify.processor, args.folder, args.int8, args.checks, args.seed, track)
    check = done["check"]
    print(
        f"Largest difference to PyTorch over {check['batches']} batches: {check['largest_difference']:.2g} "
        f"({check['where']['output']})"
    )
    if args.int8:
        print(f"After quantisation: {check['largest_difference_int8']:.2g}, on random tokens")
    print(f"Written: {args.folder} ({done['precision']}, opset {done['opset']})")


def parse_args(argv):
    """Parses the command line."""
    parser = make_parser("export", __doc__)
    parser.add_argument("checkpoint", help="a run folder (also of a LoRA run), or a name on the Hub")
    parser.add_argument("folder", help="folder for the export; an earlier export is replaced")
    parser.add_argument("--int8", action="store_true", help="quantise the linear layers to 8 bits")
    parser.add_argument("--checks", type=int, default=200, help="random batches to compare on (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="seed of these batches (default: 0)")
    args = parser.parse_args(argv)
    if args.checks < 1:
        parser.error(f"--checks must be at least 1, got {args.checks}.")
    return args
