"""What torchrun starts for `test_agreement.py`.

Without more words, both processes try what they must have in common and note what they are told.
With words of the command line, each runs it on a run folder that the other does not see.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist

from sesa_agent import cli
from sesa_agent.agents.engines.base import EngineError
from sesa_agent.agents.policy import Policy
from sesa_agent.configs.errors import SettingError
from sesa_agent.training import agreement
from sesa_agent.training.agreement import check_replicas, check_shared_folder, shared_checkpoint
from sesa_agent.training.distributed import all_gather, naming_stalled, rank, start_processes

from .runs import make_config

PATIENCE_S = 3


def told(work: Callable[[], object]) -> str:
    """The kind and the text of the error that some work raises; empty if there is none."""
    try:
        work()
    except (SettingError, EngineError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def agree(folder: Path, model: str) -> None:
    """Try everything, the stall last: no exchange works after it."""
    words = (f"optim.patience={PATIENCE_S}", "optim.shard=1")  # a copy of the weights in each
    start_processes(make_config(Path(model), *words))
    own, checkpoint = folder / f"of-{rank()}", folder / "checkpoints" / "step-000002"
    for path in (own, checkpoint):
        path.mkdir(parents=True, exist_ok=True)
    (checkpoint / "state.json").write_text("{}")
    policy = Policy.load(model, device="cpu")
    results = {
        "same folder": told(lambda: check_shared_folder(folder, wait_s=0.3)),
        "other folder": told(lambda: check_shared_folder(own, wait_s=0.3)),
        "all are through": all_gather(None),
        "left": [path.name for path in folder.glob("**/.seen*")],
        "no checkpoint": str(shared_checkpoint(folder, None)),
        "checkpoint": str(shared_checkpoint(folder, checkpoint if rank() == 0 else None)),
        "unseen": told(lambda: shared_checkpoint(folder if rank() == 0 else own, checkpoint)),
        "equal": told(lambda: check_replicas(policy, "After step 4")),
    }
    if rank() == 1:
        with torch.no_grad():
            list(policy.model.parameters())[1][0] += 1e-7
    results["different"] = told(lambda: check_replicas(policy, "After step 4"))
    if rank() == 0:
        with_names = naming_stalled(PATIENCE_S)(lambda: all_gather(0))
        results["stalled"] = told(with_names)
    (folder / f"told-{rank()}.json").write_text(json.dumps(results))
    while not (folder / "told-0.json").exists():
        time.sleep(0.1)
    dist.destroy_process_group()


if __name__ == "__main__":
    if len(sys.argv) == 3:
        agree(Path(sys.argv[1]), sys.argv[2])
    else:
        agreement.WAIT_S = 0.3
        sys.argv[-1] += os.environ["RANK"]  # of --output
        cli.main()
