"""Serve a checkpoint over HTTP.

    hf-fusion serve runs/dyfulm_synthetic
    hf-fusion serve exported/dyfulm --port 8080          # without torch
    hf-fusion serve runs/mine --host 0.0.0.0 --api_key_env HF_FUSION_KEY

    curl http://127.0.0.1:8000/predict -H 'Content-Type: application/json' \\
        -d '{"inputs": "Not a bad stay at all."}'
    curl http://127.0.0.1:8000/predict -F media=@talk.mp4    # models of media

POST /predict takes {"inputs": ..., "parameters": {...}}: inputs, options and
answers of the pipeline. GET /health, /ready, /info, /metrics (Prometheus) and
/openapi.json describe the server.

Requests of all connections are joined into batches of up to --max_batch_size
inputs. A request waits for others at most --max_wait_ms, and for its answer
at most --timeout. Beyond --max_queue inputs that wait, requests get a 503 with
Retry-After. SIGTERM closes the socket and answers all that was accepted.

The checkpoint is a run folder, a name on the Hub, or a folder that `hf-fusion
export` wrote. Its own code is run with --trust_remote_code alone. The threads
of torch are those of OMP_NUM_THREADS, by default one for each core.
"""

import os
import sys

from hf_fusion.cli.arguments import make_parser

DTYPES = ("float32", "bfloat16", "float16")
LOCAL = ("127.0.0.1", "::1", "localhost")
# Copies of the defaults of `ServerOptions`, which imports transformers.
LIMITS = {
    "max_batch_size": (int, 32, "inputs of a batch, at most"),
    "max_wait_ms": (float, 5.0, "milliseconds that a request waits for others"),
    "max_queue": (int, 1024, "inputs that wait, at most; further requests get a 503"),
    "timeout": (float, 30.0, "seconds for a request"),
    "max_inputs": (int, 256, "inputs of a request"),
    "max_text_length": (int, 50_000, "characters of a text"),
    "max_frames": (int, 20_000, "frames of audio or vision"),
    "max_body_mb": (float, 16.0, "MiB of a request"),
    "max_media_mb": (float, 64.0, "MiB of a request with a media file"),
    "media_timeout": (float, 60.0, "seconds for reading a media file, beside --timeout"),
}


def main(argv: list[str]) -> None:
    """Runs `hf-fusion serve`."""
    args = parse_args(argv)

    from hf_fusion.utils.errors import DataError
    from hf_fusion.utils.extras import import_extra

    for package in ("starlette", "uvicorn", "python_multipart"):
        import_extra(package, "serve")
    print(f"Loading {args.checkpoint}", file=sys.stderr, flush=True)
    from hf_fusion.deployment.addresses import reserve_address
    from hf_fusion.deployment.server.app import Server
    from hf_fusion.deployment.server.batching import model_thread
    from hf_fusion.deployment.server.options import ServerOptions
    from hf_fusion.deployment.server.run import exit_on_sigterm, run_server

    exit_on_sigterm()
    options = ServerOptions(**{name: getattr(args, name) for name in LIMITS})
    api_key = read_key(args.api_key_env)
    if api_key is None and args.host not in LOCAL:
        print(f"Anyone who reaches {args.host} can use this server: set --api_key_env.", file=sys.stderr)
    with reserve_address(args.host, args.port) as listener:
        worker = model_thread()
        handler, uploads = worker.submit(load_handler, args, options).result()
        if args.asr and uploads is None:
            raise DataError("--asr: this model reads no media files.")
        run_server(Server(handler, options, args.checkpoint, uploads, api_key, worker).app, listener, options)


def parse_args(argv):
    """Parses the command line."""
    parser = make_parser("serve", __doc__)
    parser.add_argument("checkpoint", help="a run folder, a name on the Hub, or an exported folder")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="port; 0: any that is free (default: 8000)")
    parser.add_argument("--api_key_env", metavar="NAME", help="environment variable with the key of clients")
    parser.add_argument("--trust_remote_code", action="store_true", help="run the code of the checkpoint")
    parser.add_argument("--device", help="cpu, cuda:0 ... (default: the accelerator, if any)")
    parser.add_argument("--dtype", choices=DTYPES, help="of the weights (default: float32)")
    parser.add_argument("--asr", help="speech recognition checkpoint for media files")
    limits = parser.add_argument_group("limits")
    for name, (kind, default, text) in LIMITS.items():
        limits.add_argument(f"--{name}", type=kind, default=default, help=f"{text} (default: {default:g})")
    return parser.parse_args(argv)


def read_key(name: str | None) -> str | None:
    """Reads the key of clients from an environment variable; raises `DataError` if it is empty."""
    from hf_fusion.utils.errors import DataError

    if name is None:
        return None
    key = os.environ.get(name, "").strip()
    if not key or not key.isascii():
        raise DataError(f"--api_key_env {name}: the environment has no such variable, or it holds no ASCII text.")
    return key


def load_handler(args, options):
    """Loads the model, and the reader of media files if the model reads them."""
    from hf_fusion.deployment.export_folder import ONNX_DESCRIPTION
    from hf_fusion.models.handler import EndpointHandler
    from hf_fusion.utils.errors import DataError

    limits = options.handler_limits()
    if os.path.isfile(os.path.join(args.checkpoint, ONNX_DESCRIPTION)):
        from hf_fusion.deployment.onnx_fusion import OnnxFusion

        if args.device or args.dtype:
            raise DataError("--device and --dtype are for checkpoints: an export runs on the CPU in its own type.")
        return EndpointHandler(classify=OnnxFusion.from_pretrained(args.checkpoint), **limits), None
    dtype = args.dtype or DTYPES[0]
    if args.trust_remote_code:
        from transformers import pipeline

        task = "fusion-sentiment"
        classify = pipeline(task, model=args.checkpoint, trust_remote_code=True, dtype=dtype, device=args.device)
        return EndpointHandler(classify=classify, **limits), None

    from hf_fusion.deployment.predictions import load_pipeline
    from hf_fusion.utils.quiet import silence_libraries

    silence_libraries()
    classify = load_pipeline(args.checkpoint, dtype, args.device)
    return EndpointHandler(classify=classify, **limits), load_uploads(classify, args, options)


def load_uploads(classify, args, options):
    """Loads the reader of media files; `None` for a model that reads none, and where the extra is missing."""
    from importlib.util import find_spec

    extractor = getattr(classify.processor, "feature_extractor", None)
    if getattr(extractor, "media_extractor", None) is None:
        return None
    if find_spec("av") is None:
        print("No media files: pip install 'hf-fusion[media]'", file=sys.stderr)
        return None
    from hf_fusion.deployment.server.uploads import MediaUploads

    return MediaUploads(classify, args.checkpoint, options.media_timeout, args.asr)
