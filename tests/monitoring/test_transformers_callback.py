"""The callback inside real Trainers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.monitoring import MonitorOptions, load_monitored

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
TOKENS = torch.randint(0, 20, (32, 6), generator=torch.Generator().manual_seed(1))


def small() -> Any:
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            n_layer=2, n_embd=8, n_head=2, vocab_size=20, n_positions=8, bos_token_id=0, eos_token_id=0,
            loss_type="ForCausalLM",
        )
    )  # fmt: skip


def train(folder: Path | None, out: Path, steps: int, resume: str | None = None, **more: Any) -> tuple[Any, Any]:
    from geomfeat.monitoring import TrainerCallback  # pyright: ignore

    args = transformers.TrainingArguments(
        str(out), per_device_train_batch_size=4, gradient_accumulation_steps=2, max_steps=steps, save_steps=3,
        logging_steps=1, report_to=[], use_cpu=True, seed=3, disable_tqdm=True, learning_rate=5e-3,
        lr_scheduler_type="constant", **more,
    )  # fmt: skip
    options = MonitorOptions(max_share=None, n_probes=8, kernel="change")
    callback = None
    if folder is not None:
        callback = TrainerCallback({"input_ids": TOKENS[:8]}, folder=folder, every=2, options=options)
    model = small()
    trainer = transformers.Trainer(
        model=model, args=args, train_dataset=[{"input_ids": t, "labels": t} for t in TOKENS],
        callbacks=[] if callback is None else [callback],
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=resume)
    return model, callback


@pytest.mark.filterwarnings("ignore")
def test_a_trainer_is_followed_step_by_step_and_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    followed, callback = train(tmp_path / "rows", tmp_path / "run", 6)
    alone, _ = train(None, tmp_path / "other", 6, save_strategy="no")
    for (name, a), (_, b) in zip(followed.named_parameters(), alone.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    record = load_monitored(tmp_path / "rows")
    assert record.network["step"].tolist() == [0, 1, 3, 5, 6]
    assert record.network["loss"].iloc[2:].between(1, 5).all()
    assert (record.network["rate"].iloc[1:] == 5e-3).all()
    assert callback.monitor.result().network["step"].tolist() == [0, 1, 3, 5, 6]
    train(tmp_path / "rows", tmp_path / "run", 8, resume=str(tmp_path / "run" / "checkpoint-3"), save_strategy="no")
    again = load_monitored(tmp_path / "rows")
    assert again.network["step"].tolist() == [0, 1, 3, 4, 6, 8]
    assert again.network["session"].tolist() == [0, 0, 0, 1, 1, 1]
    at = lambda found, step: float(found.network.set_index("step").loc[step, "movement"])  # noqa: E731
    assert at(again, 6) == pytest.approx(at(record, 6), abs=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_mixed_precision_is_off_while_measuring(tmp_path: Path) -> None:
    _, mixed = train(tmp_path / "bf16", tmp_path / "run", 1, bf16=True, save_strategy="no")
    _, plain = train(tmp_path / "fp32", tmp_path / "run", 1, save_strategy="no")
    assert mixed.monitor.rows[0].layers == plain.monitor.rows[0].layers
    assert mixed.monitor.rows[1].get("richness") == pytest.approx(plain.monitor.rows[1].get("richness"), abs=0.1)


def test_another_model_is_refused_by_the_callback(tmp_path: Path) -> None:
    from geomfeat.monitoring import TrainerCallback  # pyright: ignore

    callback = TrainerCallback(
        {"input_ids": TOKENS[:4]}, folder=tmp_path, options=MonitorOptions(max_share=None, n_probes=4)
    )
    state = transformers.TrainerState()
    callback.on_train_begin(None, state, None, model=small(), optimizer=None)
    with pytest.raises(BadInput, match="is not the one"):
        callback.on_step_end(None, state, None, model=small())


def test_a_model_that_accelerate_prepared_is_measured_without_its_autocast(tmp_path: Path) -> None:
    import accelerate
    from accelerate.state import AcceleratorState

    import geomfeat as gf

    model = small().eval()
    options = MonitorOptions(max_share=None, n_probes=8)
    plain = gf.Monitor(model, {"input_ids": TOKENS[:8]}, folder=tmp_path / "plain", options=options)
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        wrapped = accelerate.Accelerator(cpu=True, mixed_precision="bf16").prepare(model)
        with torch.no_grad():
            low = wrapped(TOKENS[:8]).logits
        monitor = gf.Monitor(wrapped, {"input_ids": TOKENS[:8]}, folder=tmp_path / "wrapped", options=options)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    assert plain._prepared is not None
    assert monitor._prepared is not None
    found, exact = monitor._prepared.start.outputs, plain._prepared.start.outputs
    assert torch.equal(found, exact)
    last = low[:, -1].double()
    assert not torch.allclose(last - last.mean(1, keepdim=True), exact, atol=1e-6)  # autocast does change its outputs
    with torch.no_grad():
        next(model.parameters()).mul_(1.1)
    row = monitor.step(1, 1.0)
    assert row is not None
    assert row.get("weight_change") > 0
