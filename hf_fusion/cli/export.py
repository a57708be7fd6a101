"""Export a checkpoint to ONNX, or as a classifier of transformers.

    hf-fusion export runs/dyfulm_synthetic exported/dyfulm
    hf-fusion export runs/dyfulm_synthetic exported/dyfulm_int8 --int8
    hf-fusion export runs/dashfusion_mosi exported/dashfusion --checks 1000
    hf-fusion export runs/my_student exported/student --format sequence-classification --with_graph

The folder of --format onnx holds graph, tokenizers, settings and onnx_fusion.json (labels, inputs with their axes,
limits, opset, versions). Batch and lengths are dynamic. In Python:

    from hf_fusion.deployment import OnnxFusion
    classify = OnnxFusion.from_pretrained("exported/dyfulm")

The float32 graph is compared with PyTorch on batches with random rows, lengths, padding and missing modalities. If
any output differs by more than 1e-4, the command fails and writes nothing. --int8 quantises the weights of linear
layers to 8 bits, which costs some accuracy.

--format sequence-classification saves the fine classes of a DyFuLM as a BertForSequenceClassification (or that of
RoBERTa, MPNet ...) for pipeline("text-classification"), Text Embeddings Inference and other servers, without coarse
classes and intensity. The DyFuLM must have a single encoder, layer_fusion last, pooling first and no guidance. The
probabilities are compared with those of the DyFuLM (1e-5). --with_graph adds onnx/model.onnx.
"""

import sys
from functools import partial

from hf_fusion.cli.arguments import make_parser

FORMATS = ("onnx", "sequence-classification")


def main(argv: list[str]) -> None:
    """Runs `hf-fusion export`."""
    args = parse_args(argv)
    from tqdm import tqdm

    from hf_fusion.utils.extras import import_extra

    if args.format == "onnx" or args.with_graph:
        for package in ("onnx", "onnxscript", "onnxruntime"):  # before the model is loaded
            import_extra(package, "onnx")
    from hf_fusion.deployment.onnx_export import silence_exporter
    from hf_fusion.deployment.predictions import load_pipeline
    from hf_fusion.utils.quiet import silence_libraries

    silence_libraries()
    silence_exporter()
    classify = load_pipeline(args.checkpoint, device="cpu")
    if args.format == "onnx" or args.with_graph:
        print(f"Exporting {args.checkpoint}: a minute or more.", file=sys.stderr)
    track = partial(tqdm, desc="comparing with PyTorch", unit="batch", file=sys.stderr)
    export = _export_onnx if args.format == "onnx" else _export_classifier
    export(args, classify.model, classify.processor, track)


def _export_onnx(args, model, processor, track):
    from hf_fusion.deployment.onnx_export import export_onnx
    from hf_fusion.hub.export_card import write_export_card

    done = export_onnx(model, processor, args.folder, args.int8, args.checks, args.seed, track)
    write_export_card(args.folder, args.checkpoint, model.config, done)
    _print_difference(done["check"], f" ({done['check']['where']['output']})")
    if args.int8:
        print(f"After quantisation: {done['check']['largest_difference_int8']:.2g}, on random tokens")
    print(f"Written: {args.folder} ({done['precision']}, opset {done['opset']})")


def _export_classifier(args, model, processor, track):
    from hf_fusion.deployment.sequence_classifier import export_sequence_classifier

    done = export_sequence_classifier(model, processor, args.folder, args.with_graph, args.checks, args.seed, track)
    print(f"Largest difference of a probability to the checkpoint: {done['check']['largest_difference']:.2g}")
    if done["onnx"]:
        _print_difference(done["onnx"])
    print(f"Left out: {', '.join(done['left_out'])}. Texts are cut to {done['max_length']} tokens (truncation=True).")
    print(f"Written: {args.folder} ({done['architecture']})")


def _print_difference(check, place=""):
    print(f"Largest difference to PyTorch over {check['batches']} batches: {check['largest_difference']:.2g}{place}")


def parse_args(argv):
    """Parses the command line."""
    parser = make_parser("export", __doc__)
    parser.add_argument("checkpoint", help="a run folder (also of a LoRA run), or a name on the Hub")
    parser.add_argument("folder", help="folder for the export; an earlier export is replaced")
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0], help="default: onnx")
    parser.add_argument("--int8", action="store_true", help="onnx: quantise the linear layers to 8 bits")
    parser.add_argument("--with_graph", action="store_true", help="sequence-classification: add onnx/model.onnx")
    parser.add_argument("--checks", type=int, default=200, help="random batches to compare a graph on (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="seed of these batches (default: 0)")
    args = parser.parse_args(argv)
    if args.checks < 1:
        parser.error(f"--checks must be at least 1, got {args.checks}.")
    for flag, needed in {"int8": "onnx", "with_graph": "sequence-classification"}.items():
        if getattr(args, flag) and args.format != needed:
            parser.error(f"--{flag} is for --format {needed}.")
    return args
