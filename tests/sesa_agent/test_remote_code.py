"""Code that comes with a model runs only if the user typed that it may."""

import builtins
import json
import sys
from pathlib import Path

import pytest
import torch
import yaml

from sesa_agent.agents.policy import Policy
from sesa_agent.commands.compare_finished import compare_finished_runs
from sesa_agent.commands.report import run_report
from sesa_agent.commands.view import run_view
from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.load import config_from_dict, config_to_dict, load_config
from sesa_agent.runs import find_policy, resumed_run
from sesa_agent.training.checkpoint import save_checkpoint
from sesa_agent.training.monitor import rescued_config
from sesa_agent.training.progress import Progress
from sesa_agent.training.setup import build_policy, resolve_auto

from ..helpers.report_files import write_run
from ..helpers.tiny_models import save_llama

TRUST = "model.trust_remote_code=true"
TYPE_IT = "[Tt]ype model.trust_remote_code=true"
CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM

Path({marker!r}).touch()

class OwnConfig(LlamaConfig):
    model_type = "own"

class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""
"""What a model folder could bring: it leaves a file behind when it is imported."""


@pytest.fixture
def marker(tmp_path):
    """The file that the model's code would write."""
    return tmp_path / "code-ran"


@pytest.fixture
def model(tmp_path, marker):
    folder = save_llama(tmp_path / "model")
    give_code(folder, marker)
    return folder


def give_code(folder, marker):
    (folder / "own.py").write_text(CODE.format(marker=str(marker)))
    edit(folder / "config.json", model_type="own", auto_map=OWN)
    edit(folder / "tokenizer_config.json", tokenizer_class="Own", auto_map=OWN)


OWN = {
    "AutoConfig": "own.OwnConfig",
    "AutoModelForCausalLM": "own.OwnModel",
    "AutoTokenizer": [None, "own.OwnTokenizer"],
}


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def run(tmp_path, model, marker):
    """A run of a trusting user, as somebody else gets it: with a checkpoint of the model."""
    folder = write_run(tmp_path / "run", settings=(f"model.path={model}", TRUST))
    save_checkpoint(
        folder,
        save_model=lambda place: give_code(save_llama(place), marker),
        optimizer=torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))]),
        state=vars(Progress(step=9)),
        keep=1,
    )
    return folder


@pytest.fixture(autouse=True)
def nobody_is_asked(monkeypatch):
    def ask(*_):
        raise AssertionError("a question on the terminal")

    monkeypatch.setattr(builtins, "input", ask)


def test_a_model_with_code_of_its_own_is_refused_in_one_line(model, marker):
    with pytest.raises(SettingError, match=TYPE_IT) as error:
        Policy.load(str(model), device="cpu")
    assert "\n" not in str(error.value)
    assert not marker.exists()


def test_typed_trust_runs_the_models_code(model, marker):
    """The counterpart of the tests here: they would pass if the code never ran."""
    edit(model / "tokenizer_config.json", tokenizer_class="TokenizersBackend", auto_map={})
    cfg = resolve_auto(load_config("sokoban", "sesa", [TRUST, f"model.path={model}"]))
    assert type(build_policy(cfg).model).__name__ == "OwnModel"
    assert marker.exists()


def test_the_settings_of_a_run_folder_trust_nothing(run, marker):
    """`evaluate`, `play --policy` and `--resume` took the trust of whoever made the run."""
    for read in (
        lambda: find_policy(str(run), "", []),
        lambda: resumed_run(run, "", "", []),
        lambda: resumed_run(run, "", "ragen", []),
        lambda: compare_finished_runs([run, run], [], 2, "", run.parent),
    ):
        with pytest.raises(SettingError, match=TYPE_IT):
            read()
    assert find_policy(str(run), "", [TRUST])[0].model.trust_remote_code
    cfg, path = find_policy(str(run), "", ["model.trust_remote_code=false"])
    with pytest.raises(SettingError, match=TYPE_IT):
        build_policy(cfg, path)
    assert not marker.exists()


def test_a_method_file_trusts_nothing(tmp_path):
    """It is named on the command line, but may come from elsewhere as well."""
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"extends": "sesa", "model": {"trust_remote_code": True}}))
    with pytest.raises(SettingError, match=TYPE_IT):
        load_config("sokoban", str(path))
    assert load_config("sokoban", str(path), [TRUST]).model.trust_remote_code
    values = config_to_dict(load_config("sokoban", "ragen"))
    with pytest.raises(SettingError, match=TYPE_IT):
        config_from_dict(values, str(path))


def test_trust_cannot_hide_in_an_interpolation(monkeypatch):
    monkeypatch.setenv("SESA_TRUST", "true")
    values = config_to_dict(load_config("sokoban"))
    for hidden in ("${env.step_timeout}", "${oc.env:SESA_TRUST}", "yes", 1):
        values["model"]["trust_remote_code"] = hidden
        with pytest.raises(SettingError):
            config_from_dict(values)


def test_view_and_report_never_run_a_models_code(run, marker):
    """`view` once asked whether to run it."""
    run_view(run, None, None, opens=False, in_terminal=False)
    run_view(run, None, None, opens=False, in_terminal=True)
    run_report(run, None, None, run.parent)
    assert (run / "trees.html").is_file()
    assert not marker.exists()


def test_a_trusted_run_can_still_be_rescued(model):
    words = ["monitor.rescue=auto", f"model.path={model}", TRUST]
    cfg = resolve_auto(load_config("sokoban", "ragen", words))
    assert rescued_config(cfg).model.trust_remote_code


def test_view_and_report_import_no_environment(tmp_path, monkeypatch):
    """An environment is code as well: only what plays it needs it."""
    folder = write_run(tmp_path / "run")
    values = yaml.safe_load((folder / "config.yaml").read_text())
    values["env"]["id"] = "somebodys_game:Game-v0"
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    (tmp_path / "somebodys_game.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    run_view(folder, None, None, opens=False, in_terminal=False)
    run_report(folder, None, None, tmp_path)
    assert "somebodys_game" not in sys.modules


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_a_kernel_named_by_a_model_is_refused(key, tmp_path):
    """transformers downloads and runs it."""
    folder = save_llama(tmp_path)
    edit(folder / "config.json", **{key: "kernels-community/flash-attn"})
    with pytest.raises(SettingError, match="asks for code from the hub .*flash-attn"):
        Policy.load(str(folder), device="cpu")


def test_pickled_weights_are_not_loaded(tmp_path):
    folder = save_llama(tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(SettingError, match="safetensors"):
        Policy.load(str(folder), device="cpu")
    edit(folder / "config.json", transformers_weights="pytorch_model.bin")
    with pytest.raises(SettingError, match="safetensors"):
        Policy.load(str(folder), device="cpu")


def test_an_adapter_names_no_module_to_import(tmp_path, monkeypatch):
    """PEFT imports `megatron_core` of adapter_config.json."""
    pytest.importorskip("peft")
    base, adapter = save_llama(tmp_path / "base"), tmp_path / "adapter"
    adapter.mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": str(base), "r": 2}
    config |= {"target_modules": ["q_proj"], "megatron_core": "somebodys_core"}
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**config, "megatron_config": {"params_dtype": "float32"}}))
    (tmp_path / "somebodys_core.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SettingError, match="Megatron"):
        Policy.load(str(adapter), device="cpu")
    path.write_text(json.dumps({**config, "base_model_name_or_path": str(adapter)}))
    with pytest.raises(SettingError, match="is its own base model"):
        Policy.load(str(adapter), device="cpu")


@pytest.mark.parametrize("text", ["!!python/object/apply:os.system [touch X]", "!!python/name:os"])
def test_yaml_tags_make_no_objects(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = write_run(tmp_path / "run")
    for name in ("run/config.yaml", "mine.yaml"):
        (tmp_path / name).write_text(f"seed: {text}\n")
    for read in (
        lambda: resumed_run(folder, "", "", []),
        lambda: run_view(folder, None, None, opens=False, in_terminal=True),
        lambda: load_config("sokoban", "./mine.yaml"),
        lambda: load_config("sokoban", "sesa", [f"seed={text}"]),
    ):
        with pytest.raises(SettingError):
            read()
    assert not Path("X").exists()
