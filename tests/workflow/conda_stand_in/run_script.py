"""The ``python`` of a stand-in environment: runs a job's script on the packages of that environment alone.

Snakemake puts a preamble before a script that makes its own packages importable, to unpickle ``snakemake``. All but
Snakemake are taken away again before the script begins, or they would hide what its environment lacks.
"""

import os
import sys
from pathlib import Path

END = "######## snakemake preamble end #########\n"

if sys.argv[1] == "-c":  # Snakemake asks for the version
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])

script = Path(sys.argv[1])
preamble, body = script.read_text(encoding="utf-8").split(END)
scope = {"__name__": "__main__", "__file__": str(script)}
exec(preamble, scope)
given = scope["snakemake"]
given.input, given.output, given.params, given.resources, given.wildcards, given.log  # noqa: B018 - made when first used
foreign = [entry for entry in sys.path if "site-packages" in entry and not entry.startswith(sys.prefix)]
assert foreign, "Snakemake no longer leaks its packages into scripts; then this file is not needed"
sys.path = [entry for entry in sys.path if entry not in foreign]
for name, module in list(sys.modules.items()):
    path = getattr(module, "__file__", None) or ""
    if path.startswith(tuple(foreign)) and not name.startswith("snakemake"):
        del sys.modules[name]
# keeps the script's line numbers
exec(compile("\n" * (preamble.count("\n") + 1) + body, str(script), "exec"), scope)
