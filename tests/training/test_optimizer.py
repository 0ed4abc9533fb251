"""float32 copies of short weights: small updates add up, and a checkpoint brings them back."""

import torch

from sesa_agent.training.checkpoint import save_checkpoint
from sesa_agent.training.optimizer import MasterAdamW
from sesa_agent.training.optimizer_files import load_optimizer

SMALL = {"lr": 1e-5, "weight_decay": 0.0, "betas": (0.9, 0.95)}


def make_model(dtype):
    torch.manual_seed(0)
    layers = torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)
    return torch.nn.Sequential(*layers).to(dtype)


def take_steps(model, optimizer, num, seed=0):
    """Each of two micro-batches of random inputs."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(num):
        optimizer.zero_grad()
        for _ in range(2):
            inputs = torch.randn(5, 6, generator=generator).to(next(model.parameters()).dtype)
            (model(inputs) - 3).square().mean().backward()
        optimizer.step()


def moved(model, start):
    """How far each weight went, in one vector."""
    pairs = zip(model.parameters(), start, strict=True)
    return torch.cat([(after.detach() - before).flatten() for after, before in pairs]).float()


def copies_of(model):
    return [weight.detach().clone() for weight in model.parameters()]


def are_equal(one, other):
    """Whether two models have the same weights bit for bit."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(*pair) for pair in pairs)


def test_small_updates_of_bfloat16_weights_add_up():
    """100 steps of 1e-5 lead up to 1e-3 away; AdamW on the weights themselves gets nowhere."""
    plain, ours = make_model(torch.bfloat16), make_model(torch.bfloat16)
    start = copies_of(ours)
    is_large = torch.cat([weight.flatten().abs() > 0.1 for weight in start])
    take_steps(plain, torch.optim.AdamW(plain.parameters(), **SMALL), 100)
    optimizer = MasterAdamW(ours.parameters(), **SMALL)
    take_steps(ours, optimizer, 100)
    assert not moved(plain, start)[is_large].any()
    masters = [master for master, _ in optimizer.copies.values()]
    far = torch.cat([(m - w.float()).flatten() for m, w in zip(masters, start, strict=True)])
    assert 9e-4 < float(far[is_large].abs().max()) < 1.01e-3
    assert moved(ours, start)[is_large].any()


def test_the_model_shows_its_copies_rounded():
    model = make_model(torch.bfloat16)
    optimizer = MasterAdamW(model.parameters(), **SMALL)
    take_steps(model, optimizer, 3)
    assert len(optimizer.copies) == len(list(model.parameters())) == 4
    for master, weight in optimizer.copies.values():
        assert master.dtype == torch.float32 and weight is not None
        assert torch.equal(master.bfloat16(), weight)
        assert not torch.equal(master, weight.float())


def test_gradients_are_added_up_in_float32_and_leave_the_model():
    model = make_model(torch.bfloat16)
    optimizer = MasterAdamW(model.parameters(), **SMALL)
    for scale in (1.0, 2.0**-10):  # 1 + 2^-10 does not exist in bfloat16
        (scale * model.get_parameter("2.bias").sum()).backward()
    master, bias = optimizer.copies[3]
    assert master.grad is not None and float(master.grad) == 1 + 2.0**-10
    assert bias is not None and bias.grad is None


def test_float32_weights_are_updated_as_by_adamw_bit_for_bit():
    plain, ours = make_model(torch.float32), make_model(torch.float32)
    expected = torch.optim.AdamW(plain.parameters(), **SMALL)
    optimizer = MasterAdamW(ours.parameters(), **SMALL)
    take_steps(plain, expected, 5)
    take_steps(ours, optimizer, 5)
    assert are_equal(plain, ours)
    assert not optimizer.copies
    assert optimizer.state_dict().keys() == expected.state_dict().keys()


def write_nothing(folder):
    """The model itself is not what these checkpoints are about."""


def test_six_steps_in_bfloat16_are_three_a_checkpoint_and_three_more(tmp_path):
    whole, first, second = (make_model(torch.bfloat16) for _ in range(3))
    whole_optimizer = MasterAdamW(whole.parameters(), **SMALL)
    take_steps(whole, whole_optimizer, 3, seed=1)
    take_steps(whole, whole_optimizer, 3, seed=2)

    first_optimizer = MasterAdamW(first.parameters(), **SMALL)
    take_steps(first, first_optimizer, 3, seed=1)
    checkpoint = save_checkpoint(
        tmp_path,
        save_model=write_nothing,
        optimizer=first_optimizer,
        state={"step": 3},
        keep=1,
    )
    second_optimizer = MasterAdamW(second.parameters(), **SMALL)
    load_optimizer(checkpoint, second_optimizer)
    assert are_equal(first, second)
    take_steps(second, second_optimizer, 3, seed=2)
    assert are_equal(whole, second)
    pairs = zip(whole_optimizer.copies.values(), second_optimizer.copies.values(), strict=True)
    assert all(torch.equal(one, other) for (one, _), (other, _) in pairs)


def test_a_checkpoint_before_the_first_step_keeps_the_copies(tmp_path):
    model = make_model(torch.bfloat16)
    optimizer = MasterAdamW(model.parameters(), **SMALL)
    optimizer.load_state_dict(optimizer.state_dict())
    take_steps(model, optimizer, 1)
    assert optimizer.state_dict()["state"][0].keys() == {"step", "exp_avg", "exp_avg_sq", "master"}


def test_another_beta2_leaves_the_estimate_of_squared_gradients():
    """AdamW divides the stored mean by 1 - beta2^step: after 3 steps .003 becomes .14."""
    model = make_model(torch.bfloat16)
    optimizer = MasterAdamW(model.parameters(), lr=1e-5, betas=(0.9, 0.999))
    optimizer.set_beta2(0.95)  # before the first step there is nothing to correct
    optimizer.set_beta2(0.999)
    take_steps(model, optimizer, 3)

    def estimates(beta2):
        stored = [state["exp_avg_sq"].clone() for state in optimizer.state.values()]
        return [values / (1 - beta2**3) for values in stored], stored

    before, stored = estimates(0.999)
    optimizer.set_beta2(0.999)
    for same, values in zip(estimates(0.999)[1], stored, strict=True):
        assert torch.equal(same, values)
    optimizer.set_beta2(0.95)
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.95)
    for after, expected in zip(estimates(0.95)[0], before, strict=True):
        torch.testing.assert_close(after, expected, rtol=1e-4, atol=0)
