"""The folder of SmolLM2-135M-Instruct, if it was fetched (`scripts/fetch_smollm2.py`)."""

import runpy
from pathlib import Path

_SCRIPT = Path(__file__).parents[2] / "scripts" / "fetch_smollm2.py"
smollm2_folder = runpy.run_path(str(_SCRIPT))["smollm2_folder"]
