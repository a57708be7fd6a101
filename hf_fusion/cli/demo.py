"""Show a page in the browser on which a person tries a checkpoint.

    hf-fusion demo runs/quickstart/dyfulm                        # http://127.0.0.1:7860, until Ctrl-C
    hf-fusion demo runs/quickstart/dyfulm me/my-dyfulm           # two checkpoints side by side
    hf-fusion demo runs/quickstart/dashfusion                    # text plus a clip of synthetic-clips
    hf-fusion demo runs/mine --dataset data/mine                 # clips of the test split of your own
    hf-fusion demo runs/quickstart_media/dashfusion              # upload a video: the score over time

For a DyFuLM: a text, its classes and intensity as bars, and the words colored by what they add to the answer and by the
encoder that reads them. For a DashFusion: clips or recordings, with each modality switched on and off. For both: a file
of rows, and a table to download.

Only this machine reaches the page, unless --host or --share say otherwise. It loads nothing from elsewhere, and sends
nothing there. `hf-fusion push --space` puts the same page on the Hub.
"""

import signal
import sys

from hf_fusion.cli.arguments import json_object, make_parser


def main(argv: list[str]) -> None:
    """Runs `hf-fusion demo`."""
    args = parse_args(argv)

    from hf_fusion.deployment.addresses import reserve_address
    from hf_fusion.deployment.demo.checkpoints import load_models
    from hf_fusion.deployment.demo.page import DemoPage, DemoSettings
    from hf_fusion.utils.quiet import silence_libraries

    silence_libraries()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # uploads are deleted on the way out
    fields = {name: value for name, value in vars(args).items() if name in DemoSettings.__dataclass_fields__}
    settings = DemoSettings(**fields)
    reserve_address(args.host, args.port or 0).close()  # before the models are loaded
    with DemoPage(load_models([args.checkpoint, *filter(None, [args.other])], args.device), settings) as page:
        page.launch(args.host, args.port, args.share, args.mcp, on_start=lambda *links: _print_links(links, args.mcp))


def parse_args(argv):
    """Parses the command line."""
    parser = make_parser("demo", __doc__)
    parser.add_argument("checkpoint", help="a run folder, or a name on the Hub")
    parser.add_argument("other", nargs="?", metavar="OTHER_CHECKPOINT", help="a second one, to compare with")
    parser.add_argument("--host", default="127.0.0.1", help="address; 0.0.0.0 for all networks (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port (default: the first free one from 7860 on)")
    parser.add_argument("--share", action="store_true", help="make a public link through gradio's servers")
    parser.add_argument("--mcp", action="store_true", help="offer the answers as a tool for agents (extra mcp)")
    parser.add_argument("--dataset", help="clips to choose from (default: synthetic-clips where it fits)")
    parser.add_argument("--dataset_options", type=json_object, default={}, help="options for their reader (JSON)")
    parser.add_argument("--asr", help="speech recognition checkpoint for recordings without subtitles")
    parser.add_argument("--language", help="what is spoken, for --asr (default: recognised)")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds for a recording (default: 120)")
    parser.add_argument("--max_rows", type=int, default=1000, help="rows of a file, at most (default: 1000)")
    parser.add_argument("--max_file_size", type=int, default=50, help="MB of an upload, at most (default: 50)")
    parser.add_argument("--device", help="cpu, cuda:0 ... (default: the accelerator, if there is one)")
    return parser.parse_args(argv)


def _print_links(links, mcp):
    url, share_url = links
    print(f"The page is at {url} (Ctrl-C ends it).", flush=True)
    if share_url:
        print(f"Everybody who has this link reaches it: {share_url}", flush=True)
    if mcp:
        print(f"The tool is at {url.rstrip('/')}/gradio_api/mcp/", flush=True)
