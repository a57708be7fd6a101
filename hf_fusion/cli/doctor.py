"""Examine a checkpoint and this environment, and say what to mend.

    hf-fusion doctor runs/mine
    hf-fusion doctor me/my-dyfulm --revision main         # of the Hub
    hf-fusion doctor runs/mine --trust_remote_code        # also runs the code in it
    hf-fusion doctor runs/mine --json | jq .faults

Checked are versions, devices and extras; files, configuration and code of the checkpoint; every weight against the
file and against the fingerprint that was saved with it; the vocabularies of tokenizers; and the answers to two samples.
With --trust_remote_code the checkpoint is also loaded in a process without hf_fusion, and must give the same answers.
Exit status: 0 sound, possibly with warnings; 1 a fault; 2 no such checkpoint.
"""

from hf_fusion.cli.arguments import make_parser


def main(argv: list[str]) -> int:
    """Runs `hf-fusion doctor`."""
    args = parse_args(argv)
    from hf_fusion.deployment.doctor import FAULT, WARNING, examine

    findings = examine(args.checkpoint, args.trust_remote_code, args.revision)
    counts = {status: sum(finding.status == status for finding in findings) for status in (FAULT, WARNING)}
    if args.json:
        print_json(args.checkpoint, findings, counts)
    else:
        print_findings(findings, counts)
    return int(counts[FAULT] > 0)


def parse_args(argv):
    """Parses the command line."""
    parser = make_parser("doctor", __doc__)
    parser.add_argument("checkpoint", help="a folder, also with a LoRA adapter, or a name on the Hub")
    parser.add_argument("--revision", help="branch, tag or commit on the Hub (default: main)")
    parser.add_argument("--trust_remote_code", action="store_true", help="also run the code of the checkpoint")
    parser.add_argument("--json", action="store_true", help="print JSON: checkpoint, faults, warnings, findings")
    return parser.parse_args(argv)


def print_findings(findings, counts):
    """Prints a line for each finding and their counts."""
    for finding in findings:
        print(f"{finding.status:8} {finding.check:14} {finding.message}")
    print("Faults: {}, warnings: {}.".format(*counts.values()))


def print_json(checkpoint, findings, counts):
    """Prints the findings as JSON."""
    import json
    from dataclasses import asdict

    faults, warnings = counts.values()
    record = {"checkpoint": checkpoint, "faults": faults, "warnings": warnings, "findings": list(map(asdict, findings))}
    print(json.dumps(record, indent=2, ensure_ascii=False))
