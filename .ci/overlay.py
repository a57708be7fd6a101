"""Lets an environment find the packages of this one, after its own: `python .ci/overlay.py FOLDER`."""

import sys
import sysconfig
from pathlib import Path

folder = Path(sys.argv[1]).resolve()
own = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
# `addsitedir` reads the .pth files there too, such as that of an editable installation
line = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
Path(own, "base.pth").write_text(line, encoding="utf-8")
