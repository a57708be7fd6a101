"""`python -m hf_fusion COMMAND`, as `hf-fusion COMMAND`."""

import sys

from hf_fusion.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
