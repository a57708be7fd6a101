#!/usr/bin/env python
"""`hf-fusion calibrate`, run from a clone of the repository."""

from hf_fusion.cli.main import run_script

if __name__ == "__main__":
    run_script(__file__, "calibrate")
