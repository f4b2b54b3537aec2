"""The loop: it learns, it resumes bit for bit, it shares the work, and it says what went wrong."""

import copy
import io

import numpy as np
import pytest
import torch
from torch import nn

from lightly_fs.embedding.final_layer import WithFinalLayer
from lightly_fs.errors import ModelError
from lightly_fs.training.checkpoint import load_checkpoint
from lightly_fs.training.distributed import trainer_of
from lightly_fs.training.trainer import Trainer
from tests.unit.embedding.networks import small_network
from tests.unit.training.small import SIZE, make_pack, nobody, plan


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return make_pack(tmp_path_factory.mktemp("pack"), 24)


def trained(made, *, epochs: int | None = None, module=None):
    """Train to the end, or stop after so many epochs as a killed process would."""
    with trainer_of(made, module or small_network().module) as trainer:
        done = trainer.epochs(nobody)
        for epoch in done:
            if epochs is not None and epoch + 1 == epochs:
                break
        return trainer.checkpoint()


def written(content):
    """What a checkpoint is after it was in a file."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return load_checkpoint(buffer.getvalue())


def same(one, other) -> bool:
    states = [content["state_dict"] for content in (one, other)]
    return states[0].keys() == states[1].keys() and all(
        torch.equal(value, states[1][name]) for name, value in states[0].items()
    )


def test_training_changes_every_weight_and_lowers_the_loss(pack):
    made = plan(pack, trainer={"max_epochs": 30}, optimizer={"lr": 8.0})
    content = trained(made)
    before = small_network().module.state_dict()
    losses = [entry["loss"] for entry in content["history"][1:31]]

    for name, value in before.items():
        assert not torch.equal(value, content["state_dict"][f"model.backbone.network.{name}"])
    assert len(losses) == 30
    assert sum(losses[-8:]) < sum(losses[:8])
    assert content["epoch"] == 29
    assert content["history"][0]["loss"] is None


@pytest.mark.parametrize(
    "groups",
    [
        {},
        {"trainer": {"max_epochs": 3, "precision": 16}},
        {"criterion": {"memory_bank_size": 64}},
        {"loader": {"batch_size": 5, "num_workers": 2, "drop_last": False}},
    ],
    ids=["plain", "mixed", "bank", "workers"],
)
@pytest.mark.parametrize("after", [1, 2])
def test_a_resumed_training_ends_bit_for_bit_the_same(pack, groups, after):
    whole = trained(plan(pack, **groups))
    first = written(trained(plan(pack, **groups), epochs=after))
    resumed = trained(plan(pack, resumed=first, **groups))

    assert first["epoch"] == after - 1
    assert not same(whole, first)
    assert same(whole, resumed)
    assert whole["history"] == resumed["history"]


KEPT = {"model": {"normalize_covariance": False, "start_share": 0}}
AS_TRAINED = {"model": {"start_share": 0}}


def test_the_network_ends_with_a_layer_that_is_measured(pack):
    content, kept = trained(plan(pack, **AS_TRAINED)), trained(plan(pack, **KEPT))
    names = [name for name in content["state_dict"] if "final_layer" in name]

    assert [entry["epoch"] for entry in content["history"]] == [0, 1, 2, 3, 3]
    assert content["history"][:-1] == kept["history"]
    assert content["history"][-1]["normalized"] is True
    assert content["history"][-1]["loss"] == content["history"][-2]["loss"]
    assert content["history"][-1]["uniformity"] != content["history"][-2]["uniformity"]
    assert names == [f"model.backbone.final_layer.{name}" for name in ("weight", "bias")]
    assert (content["lightly_fs"]["final_layer"], "final_layer" in kept["lightly_fs"]) == (
        True,
        False,
    )
    for name, value in kept["state_dict"].items():
        if "backbone" in name:
            inner = name.replace("backbone.", "backbone.network.")
            assert torch.equal(value, content["state_dict"][inner])


def test_the_weights_lie_between_those_of_before_and_after(pack):
    only = {"normalize_covariance": False, "start_share": 0.75}
    content, kept = trained(plan(pack, model=only)), trained(plan(pack, **KEPT))
    start = small_network().module.state_dict()

    assert content["history"][:-1] == kept["history"]
    assert (content["history"][-1]["start_share"], content["history"][-1]["normalized"]) == (
        0.75,
        False,
    )
    for name, value in start.items():
        made, after = (one["state_dict"][f"model.backbone.{name}"] for one in (content, kept))
        if value.is_floating_point():
            assert torch.allclose(made, 0.75 * value + 0.25 * after, atol=1e-6)
            assert not torch.equal(made, after)
        else:
            assert torch.equal(made, after)


def test_nothing_is_kept_of_random_weights(pack):
    made = plan(pack, model={"normalize_covariance": False})
    object.__setattr__(made, "pretrained", False)
    assert same(trained(made), trained(plan(pack, **KEPT)))


def network_of(content, module):
    """Return the network with the tensors of a checkpoint."""
    prefix = "model.backbone."
    state = {n.removeprefix(prefix): v for n, v in content["state_dict"].items() if prefix in n}
    module.load_state_dict(state)
    return module.eval()


def test_the_layer_centres_the_images_and_makes_views_differ_more_evenly(pack):
    content, kept = trained(plan(pack, **AS_TRAINED)), trained(plan(pack, **KEPT))
    dimensions = torch.zeros(24, 24), torch.zeros(24)
    ended = network_of(content, WithFinalLayer(small_network().module, *dimensions))
    plain = network_of(kept, small_network().module)
    trainer = Trainer(plan(pack), small_network().module)
    views = torch.stack([trainer._make(pack.copies()[row], (7, row)) for row in range(24)])
    spreads = []
    for module in (plain, ended):
        trainer.model.backbone = module
        difference = trainer._embedded(views[:, 1]) - trainer._embedded(views[:, 0])
        spreads.append(np.linalg.eigvalsh(difference.T @ difference))
    rows = trainer._batches.rows
    images = torch.from_numpy(np.stack([pack.plain()[row] for row in rows]))

    assert spreads[1][-1] / spreads[1].mean() < spreads[0][-1] / spreads[0].mean()
    assert np.abs(trainer._embedded(images).mean(axis=0)).max() < 1e-5


def test_a_network_with_a_layer_has_still_one_after_more_training(pack):
    dimensions = torch.zeros(24, 24), torch.zeros(24)
    first = trained(plan(pack))
    module = network_of(first, WithFinalLayer(small_network().module, *dimensions))
    second = trained(plan(pack), module=module)

    assert first["state_dict"].keys() == second["state_dict"].keys()
    assert second["history"][0]["knn"] == first["history"][-1]["knn"]
    # Unfinished trainings of such a network keep the layer as it is trained, and say so.
    middle = trained(plan(pack), epochs=1, module=copy.deepcopy(module))
    assert middle["lightly_fs"]["final_layer"] is True
    assert same(
        trained(plan(pack), module=copy.deepcopy(module)),
        trained(plan(pack, resumed=written(middle)), module=copy.deepcopy(module)),
    )


def test_the_projection_head_goes_with_the_layer(pack):
    """What the head gives for the network with the layer differs from before by a constant."""
    content, kept = trained(plan(pack, **AS_TRAINED)), trained(plan(pack, **KEPT))
    dimensions = torch.zeros(24, 24), torch.zeros(24)
    images = torch.rand(9, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    found = []
    for one, module in (
        (content, WithFinalLayer(small_network().module, *dimensions)),
        (kept, small_network().module),
    ):
        first = one["state_dict"]["model.projection_head.layers.0.weight"]
        with torch.no_grad():
            vectors = network_of(one, module)(images) @ first.T
        found.append(vectors - vectors.mean(dim=0))

    assert found[0].abs().max() > 0.01
    assert torch.allclose(*found, atol=1e-4)


def test_dropout_is_resumed_exactly_too(pack):
    def module():
        return nn.Sequential(small_network().module, nn.Dropout(0.5))

    whole = trained(plan(pack), module=module())
    first = written(trained(plan(pack), epochs=1, module=module()))

    assert same(whole, trained(plan(pack, resumed=first), module=module()))


def test_the_callers_random_numbers_are_left_alone(pack):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    trained(plan(pack, trainer={"max_epochs": 1}))

    assert torch.equal(expected, torch.rand(2))


@pytest.mark.slow
def test_two_processes_share_every_step_and_resume_exactly(pack):
    made = plan(pack, processes=2)
    with trainer_of(made, small_network().module) as trainer:
        contents = [written(trainer.checkpoint()) for _ in trainer.epochs(nobody)]
    resumed = trained(plan(pack, processes=2, resumed=contents[0]))

    assert contents[-1]["processes"] == 2
    assert contents[-1]["global_step"] == 3 * (22 // 8)
    assert same(contents[-1], resumed)
    # The statistics of batch norm are each process's own; with the whole batch they would differ.
    assert not same(contents[-1], trained(plan(pack)))


class _Failing(nn.Module):
    """Takes single images, as when its dimensions are found out, but no step of training."""

    def __init__(self, error: Exception, fits: int = 1) -> None:
        super().__init__()
        self.error, self.fits = error, fits
        self.inner = small_network().module

    def forward(self, images):
        if len(images) > max(1, 2 * self.fits):
            raise self.error
        return self.inner(images)


OUT_OF_MEMORY = (
    MemoryError(),
    torch.cuda.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
def test_a_full_memory_names_the_batch_size_that_fits(pack, error):
    made = plan(pack, loader={"batch_size": 16, "num_workers": 0})
    with pytest.raises(ModelError, match=r"a batch of 16 images .* memory of cpu") as caught:
        trained(made, module=_Failing(error, fits=5))
    assert "lightly.loader.batch_size=4 does" in caught.value.message
    assert "choose another `run_directory`" in caught.value.hint


def test_a_memory_that_no_batch_fits_names_other_keys(pack):
    made = plan(pack, loader={"batch_size": 16, "num_workers": 0})
    with pytest.raises(ModelError) as caught:
        trained(made, module=_Failing(MemoryError()))
    assert "precision=16" in caught.value.message
    assert "input_size" in caught.value.message


def test_killed_workers_name_the_shared_memory(pack):
    error = RuntimeError(
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible "
        "that dataloader's workers are out of shared memory."
    )
    with pytest.raises(ModelError, match="no shared memory") as caught:
        trained(plan(pack), module=_Failing(error))
    assert "--shm-size" in caught.value.hint


def test_a_model_without_room_names_its_sizes(pack):
    # 256 GiB for the earlier projections, which nothing hands out at once.
    made = plan(pack, model={"out_dim": 65_536}, criterion={"memory_bank_size": 1_048_576})
    with pytest.raises(ModelError, match="does not fit into the memory of cpu") as caught:
        trained(made)
    assert "lightly.model.out_dim=65536" in caught.value.message
    assert "lightly.criterion.memory_bank_size=1048576" in caught.value.message
    assert "choose another `run_directory`" in caught.value.hint


def test_other_errors_of_the_model_pass(pack):
    with pytest.raises(RuntimeError, match="something else"):
        trained(plan(pack), module=_Failing(RuntimeError("something else")))


def test_a_diverging_training_names_a_lower_rate(pack):
    made = plan(pack, trainer={"max_epochs": 20}, optimizer={"lr": 500.0})
    with pytest.raises(ModelError, match=r"diverged with lightly\.optimizer\.lr=500;") as caught:
        trained(made, module=_Explosive())
    assert "lightly.optimizer.lr=50 may do" in caught.value.message
    # The keys of a run are frozen: another rate is another run.
    assert "choose another `run_directory`" in caught.value.hint


class _Explosive(nn.Module):
    """Has a root, whose gradient is steep and which a step too far leaves without a value."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = small_network().module
        self.weight = nn.Parameter(torch.tensor(1e-6))

    def forward(self, images):
        first, rest = torch.split(self.inner(images), [1, 23], dim=1)
        return torch.cat([first * self.weight.sqrt(), rest], dim=1)


@pytest.mark.slow
def test_a_process_that_dies_is_told(pack):
    made = plan(pack, processes=2)
    module = _DiesElsewhere()
    with pytest.raises(ModelError, match="one of 2 training processes failed"):
        trained(made, module=module)


class _DiesElsewhere(nn.Module):
    """Fails in every process but the one that made it."""

    def __init__(self) -> None:
        super().__init__()
        import os

        self.owner = os.getpid()
        self.inner = small_network().module

    def forward(self, images):
        import os

        if os.getpid() != self.owner and len(images) > 1:
            raise ValueError("here")
        return self.inner(images)


def test_the_head_of_a_checkpoint_is_taken_over(pack):
    content = trained(plan(pack))
    head = {
        name.removeprefix("model.projection_head."): value
        for name, value in content["state_dict"].items()
        if "projection_head" in name
    }
    made = plan(pack)
    fresh = Trainer(made, small_network().module).model.projection_head.state_dict()
    object.__setattr__(made, "head", head)
    taken = Trainer(made, small_network().module).model.projection_head.state_dict()

    assert all(torch.equal(value, taken[name]) for name, value in head.items())
    assert not all(torch.equal(value, fresh[name]) for name, value in head.items())
