"""Removes this folder from the import path; imported first by scripts that are not commands.

Python puts a script's folder there, and `evaluate.py` would then hide the library of that name.
"""

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != _HERE]
