"""Runs that are broken off go on from their checkpoints and come out the same, bit for bit."""

import logging
import os
import re
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from harsh import NAME, SIZES, BrokenOff, Child, breaking, command, killing_at
from typer.testing import CliRunner

from lop_utils.evidence import store, unfinished
from lop_utils.experiments import bit_flipping, continual, league, normalization, online_league
from lop_utils.experiments.tidy import tidy
from lop_utils.kit.cli import app
from lop_utils.optim.continual_backprop import ContinualBackprop
from lop_utils.optim.gradient_noise import GradientNoise
from lop_utils.optim.intervention import Intervention
from lop_utils.optim.redo import ReDo
from lop_utils.optim.self_normalized_resets import SelfNormalizedResets
from lop_utils.optim.shrink_perturb import ShrinkPerturb
from lop_utils.optim.upgd import UPGD
from lop_utils.optim.weight_noise import WeightNoise
from lop_utils.training import resuming
from lop_utils.training.online import Method


@pytest.fixture(autouse=True)
def at_every_chance(monkeypatch, results):
    """A checkpoint wherever one can be, and one thread."""
    monkeypatch.setattr(unfinished, "SECONDS", 0.0)
    monkeypatch.setattr(unfinished, "WORTHWHILE", 0.0)
    torch.set_num_threads(1)


def quick(names, *chosen):
    """Parameters of which only the chosen ones are not slow."""
    return [pytest.param(name, marks=() if name in chosen else pytest.mark.slow) for name in names]


def stored(experiment, config, **options):
    """The bytes of the stored result; it is removed so that the next call computes."""
    result = store.result_of(experiment, config, device="cpu", **options)
    data = result.path.read_bytes()
    assert not result.path.with_suffix(".unfinished").exists()
    result.path.unlink()
    result.path.with_suffix(".json").unlink()
    return data


def broken_and_resumed(experiment, config, module, name, after, monkeypatch):
    """The bytes after breaking off at the `after`-th call of module.name, and how many calls going on took."""
    with monkeypatch.context() as patched:
        breaking(patched, module, name, after)
        with pytest.raises(BrokenOff):
            stored(experiment, config)
    with monkeypatch.context() as patched:
        calls = breaking(patched, module, name, -1)
        return stored(experiment, config), len(calls)


STREAM = continual.Config(
    source="digits", settings=(("groups", 2), ("views", 5)), widths=(6, 6), tasks=5, steps=4, batch_size=10, samples=20,
    fresh=(2, 5), diagnosed=(4,), seeds=(0, 1),
)  # fmt: skip
VARIANTS = {
    "plain": {},
    "dropout": {"dropout": 0.2},
    "batch norm": {"norm": "batch"},
    "sgd": {"optimizer": "sgd", "lr": 0.1},
    "diverging": {"optimizer": "sgd", "lr": 1e30},
}


@pytest.mark.parametrize("variant", quick(VARIANTS, "dropout"))
def test_a_stream_broken_off_after_any_task_goes_on_there_and_comes_out_the_same(variant, monkeypatch, tally):
    config = replace(STREAM, **VARIANTS[variant])
    whole = stored(continual, config)
    for after in (1, 3, 6):  # of 7 calls: fresh networks learn twice
        again, calls = broken_and_resumed(continual, config, continual, "learn", after, monkeypatch)
        tally(
            "run broken off, continual stream", "detected" if again == whole and calls < 7 else "lost", (after, calls)
        )


def cbp(optimizer, stack):
    ContinualBackprop(optimizer, stack, replacement_rate=0.1, maturity=3, seed=stack.seeds)


def redo(optimizer, stack):
    ReDo(optimizer, stack, tau=0.8, every=5, seed=stack.seeds)


def snr(optimizer, stack):
    SelfNormalizedResets(optimizer, stack, quantile=0.5, limit=3, refresh=5, seed=stack.seeds)


def gradient_noise(optimizer, stack):
    GradientNoise(optimizer, sigma=0.1, seed=stack.seeds, stacked=True)


def weight_noise(optimizer, stack):
    WeightNoise(optimizer, stack, sigma=0.1, seed=stack.seeds)


def upgd(optimizer, stack):
    UPGD(optimizer, stack, sigma=0.1, factor=2.0, seed=stack.seeds)


def shrink_perturb(optimizer, stack):
    kept = ShrinkPerturb(optimizer, stack, shrink=0.8, perturb=0.2, seed=stack.seeds)
    return lambda index: kept.perturb_now() if index else None


INTERVENTIONS = {f.__name__: f for f in (cbp, redo, snr, gradient_noise, weight_noise, upgd, shrink_perturb)}


@pytest.mark.parametrize("name", quick(INTERVENTIONS, "cbp"))
def test_every_intervention_goes_on_where_it_was(name, monkeypatch, tally):
    config = replace(STREAM, steps=12, lr=0.1, diagnosed=())  # large, so that units die
    run = lambda config, device: tidy(  # noqa: E731
        continual.train_stream(config, device, install=INTERVENTIONS[name]), experiment="toy", arch="mlp", task="digits"
    )
    experiment = SimpleNamespace(NAME="toy", run=run, __name__=continual.__name__)
    whole = stored(experiment, config)
    for after in (2, 4):
        again, calls = broken_and_resumed(experiment, config, continual, "learn", after, monkeypatch)
        tally("run broken off, interventions", "detected" if again == whole and calls < 7 else "lost", (name, after))
    monkeypatch.setattr(Intervention, "load_state_dict", lambda *_: None)
    again, _ = broken_and_resumed(experiment, config, continual, "learn", 4, monkeypatch)
    assert again != whole  # its state matters


LEAGUE = league.Config(
    entrants=("l2_init", "forget_moments", "none"), widths=(6, 6), batch_size=20, steps=4, tasks=3, tuning_tasks=2,
    late=1, tuning_seeds=(100,), seeds=(0, 1),
)  # fmt: skip


@pytest.mark.slow
def test_a_league_goes_on_in_the_middle_of_the_same_entrant(monkeypatch, tally):
    """The runs of one entrant differ in what is installed only; each has its own checkpoint."""
    whole = stored(league, LEAGUE)
    for after in (1, 3, 5, 8, 14):
        again, calls = broken_and_resumed(league, LEAGUE, continual, "learn", after, monkeypatch)
        tally(
            "run broken off, league", "detected" if again == whole and calls == 16 - after else "lost", (after, calls)
        )


@pytest.mark.slow
def test_what_measures_along_the_way_goes_on_too(monkeypatch, tally):
    config = normalization.Config(
        arms=("batch rescaled", "layer"), widths=(6, 6), tasks=3, steps=6, every=2, seeds=(0,)
    )
    whole = stored(normalization, config)
    for after in range(1, 6):
        again, calls = broken_and_resumed(normalization, config, continual, "learn", after, monkeypatch)
        tally("run broken off, normalisation", "detected" if again == whole and calls == 6 - after else "lost", after)


ONLINE = bit_flipping.Config(
    steps=120, widths=(3,), seeds=(0, 1), period=30, every=20, measure_every=40, checkpoints=1, fresh_steps=40,
    engine="torch",
)  # fmt: skip
METHODS = {
    "bp": Method(),
    "cbp": Method(cbp="as_published", maturity=10, rate=0.05),
    "cbp as coded": Method(cbp="as_coded", maturity=10),
    "cbp dohare": Method(cbp="dohare", maturity=10, rate=0.01),
    "redo": Method(redo_every=50),
    "l2 init": Method(l2_init=0.01),
    "shrink and perturb": Method(shrink=0.9, perturb=0.1),
    "gradient noise": Method(gradient_noise=0.01),
    "weight noise": Method(weight_noise=0.001),
    "dropout": Method(dropout=0.2),
}


@pytest.mark.parametrize("name", quick(METHODS, "cbp"))
def test_online_runs_go_on_in_the_middle_of_a_run(name, monkeypatch, tally):
    config = replace(ONLINE, arms=(bit_flipping.Arm(name, METHODS[name]),))
    monkeypatch.setattr(bit_flipping, "cores", lambda: 1)
    whole = stored(bit_flipping, config)
    calls = []
    for after in (0, 3, 7):
        again, count = broken_and_resumed(bit_flipping, config, bit_flipping, "unit_metrics", after, monkeypatch)
        calls.append(count)
        tally("run broken off, online", "detected" if again == whole else "lost", (name, after))
    assert calls[0] > calls[1] > calls[2]  # what was done is not done again


@pytest.mark.slow
def test_compiled_online_runs_side_by_side_go_on_in_the_middle(monkeypatch, tally):
    from lop_utils.training.compiled import AVAILABLE

    if not AVAILABLE:
        pytest.skip("numba is not installed")
    arms = tuple(bit_flipping.Arm(name, method) for name, method in METHODS.items())
    config = replace(ONLINE, arms=arms, widths=(3,), steps=2000, every=200, measure_every=400, engine="compiled")
    whole = stored(bit_flipping, config)
    for after in (10, 60):
        again, _ = broken_and_resumed(bit_flipping, config, bit_flipping, "unit_metrics", after, monkeypatch)
        tally("run broken off, online", "detected" if again == whole else "lost", after)


@pytest.mark.slow
def test_a_league_of_online_methods_goes_on(monkeypatch, tally):
    config = online_league.preset("smoke", candidates=online_league.CANDIDATES[:1], engine="torch", steps=600,
                                  tune_steps=200, fresh_steps=100, period=50, every=50)  # fmt: skip
    whole = stored(online_league, config)
    for after in (3, 9):
        again, _ = broken_and_resumed(online_league, config, bit_flipping, "unit_metrics", after, monkeypatch)
        tally("run broken off, online", "detected" if again == whole else "lost", after)


def broken_checkpoint(monkeypatch):
    """A run broken off after its third task; the path of its checkpoint."""
    with monkeypatch.context() as patched:
        breaking(patched, continual, "learn", 4)
        with pytest.raises(BrokenOff):
            stored(continual, STREAM)
    folder = store.place(continual.NAME, STREAM, "cpu").with_suffix(".unfinished")
    (path,) = folder.iterdir()
    return path


def of_another_configuration(path, monkeypatch):
    other = replace(STREAM, lr=0.5)
    with monkeypatch.context() as patched:
        breaking(patched, continual, "learn", 4)
        with pytest.raises(BrokenOff):
            stored(continual, other)
    (theirs,) = store.place(continual.NAME, other, "cpu").with_suffix(".unfinished").iterdir()
    path.write_bytes(theirs.read_bytes())


def of_another_version(path, monkeypatch):
    installed = store.library_versions()
    monkeypatch.setattr(store, "library_versions", lambda: {**installed, "torch": "0.1"})


def of_another_format(path, monkeypatch):
    monkeypatch.setattr(unfinished, "FORMAT", unfinished.FORMAT + 1)


def cut_short(path, monkeypatch):
    path.write_bytes(path.read_bytes()[:-50])


def flipped(path, monkeypatch):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def empty(path, monkeypatch):
    path.write_bytes(b"")


WRONG = {
    of_another_configuration: "it is of another configuration",
    of_another_version: "it is from another version",
    of_another_format: "it is in another format",
    cut_short: "it cannot be read",
    flipped: "it cannot be read|checksum",
    empty: "it cannot be read",
}


@pytest.mark.parametrize("damage", WRONG, ids=lambda f: f.__name__)
def test_a_checkpoint_that_does_not_fit_is_named_and_the_run_starts_anew(damage, monkeypatch, caplog, tally):
    whole = stored(continual, STREAM)
    path = broken_checkpoint(monkeypatch)
    damage(path, monkeypatch)
    calls = breaking(monkeypatch, continual, "learn", -1)
    with caplog.at_level(logging.WARNING):
        again = stored(continual, STREAM)
    said = str(path) in caplog.text and "starts anew" in caplog.text and re.search(WRONG[damage], caplog.text)
    tally(
        "checkpoint that does not fit",
        "detected" if said and again == whole and len(calls) == 7 else "lost",
        caplog.text,
    )


def test_what_a_kill_left_beside_a_stored_result_is_removed_when_the_result_is_found(monkeypatch):
    result = store.result_of(continual, STREAM, device="cpu")
    left = result.path.with_suffix(".unfinished") / "part.npz"
    left.parent.mkdir()
    left.write_bytes(b"")
    assert store.peek(continual.NAME, STREAM, device="cpu", modules=[continual.__name__]) is not None
    assert not left.parent.exists() and not store.begun(continual.NAME, STREAM, device="cpu")


def test_without_resume_a_run_starts_anew(monkeypatch):
    whole = stored(continual, STREAM)
    broken_checkpoint(monkeypatch)
    calls = breaking(monkeypatch, continual, "learn", -1)
    assert stored(continual, STREAM, resume=False) == whole
    assert len(calls) == 7


def test_a_resumed_result_says_so_in_its_provenance(monkeypatch):
    broken_checkpoint(monkeypatch)
    assert store.result_of(continual, STREAM, device="cpu").provenance["resumed"] is True
    assert (
        "resumed"
        not in store.result_of(continual, replace(STREAM, tasks=1, fresh=(), diagnosed=()), device="cpu").provenance
    )


def test_checkpoints_are_made_only_when_it_is_time_for_them(monkeypatch):
    monkeypatch.setattr(unfinished, "SECONDS", 1000.0)
    with monkeypatch.context() as patched:
        breaking(patched, continual, "learn", 4)
        with pytest.raises(BrokenOff):
            stored(continual, STREAM)
    assert not store.begun(continual.NAME, STREAM, device="cpu")


def test_a_run_whose_hooks_have_unknown_state_leaves_no_checkpoint(monkeypatch):
    def install(optimizer, stack):
        optimizer.register_step_post_hook(lambda *_: None)

    saved = []
    monkeypatch.setattr(unfinished.Part, "save", lambda *_, **__: saved.append(1))
    rows = lambda: pd.DataFrame(continual.train_stream(STREAM, torch.device("cpu"), install=install)).add_prefix("c")  # noqa: E731
    store.fetch("toy", 1, rows, device="cpu", modules=["lop_utils.errors"])
    assert saved == []


def test_where_no_checkpoint_can_be_written_the_run_goes_on(monkeypatch, caplog, tally):
    def full(*_):
        raise OSError(28, "No space left on device")

    whole = stored(continual, STREAM)
    monkeypatch.setattr(unfinished, "pack", full)
    with caplog.at_level(logging.WARNING):
        again = stored(continual, STREAM)
    said = "no checkpoint was made: no space left in" in caplog.text
    tally("no room for a checkpoint", "detected" if said and again == whole else "lost", caplog.text)


def test_the_command_shows_what_was_begun_and_can_start_it_anew(grid, results, monkeypatch):
    def killed():
        killing_at(16, results)
        return command()

    assert Child(killed).code() == -9
    words = [word for setting in SIZES for word in ("--set", setting)]
    shown = CliRunner().invoke(app, ["experiment", NAME, "--device", "cpu", "--seeds", "1", *words, "--dry-run"])
    assert "begun" in shown.output, (shown.output, list(os.walk(results)))
    assert Child(lambda: command("--no-resume")).code() == 0 and grid.whole()


def test_the_order_of_hooks_is_that_of_their_coming():
    p = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([p])

    class Kept:
        def state_dict(self):
            return {}

        def load_state_dict(self, state):
            pass

        def hook(self, *_):
            pass

    first, second = Kept(), Kept()
    optimizer.register_step_post_hook(first.hook)
    optimizer.register_step_pre_hook(second.hook)
    optimizer.register_step_pre_hook(first.hook)
    assert resuming.hooked(optimizer) == [first, second]
