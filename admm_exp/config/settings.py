"""What an experiment is: typed settings, with the defaults that conf/ leaves out."""

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Annotated, Any

from annotated_types import Ge, Gt, Lt, MinLen

from admm_exp.admm.settings import (
    AdmmDecay,
    AdmmSettings,
    Count,
    DualStep,
    Fraction,
    LearningRate,
    LrPer,
    Relaxation,
    Stopping,
    Warmup,
    WStep,
)


class Decay(StrEnum):
    """How a learning rate falls over a phase."""

    constant = "constant"
    cosine = "cosine"
    step = "step"


class OptimizerName(StrEnum):
    """Optimizers of torch.optim that a schedule can name."""

    sgd = "sgd"
    adamw = "adamw"


class TrackingName(StrEnum):
    """Trackers: MLflow, or none at all."""

    mlflow = "mlflow"
    none = "none"


@dataclass
class OptimizerSettings:
    """The optimizer of all phases."""

    name: OptimizerName = OptimizerName.sgd
    momentum: Annotated[float, Ge(0.0), Lt(1.0)] = 0.9
    weight_decay: Annotated[float, Ge(0.0)] = 5e-4
    nesterov: bool = True


@dataclass
class TrainingSettings:
    """A phase of plain training, such as that of the dense network.

    `warmup` is the fraction of the phase over which the learning rate rises.
    """

    epochs: Annotated[int, Ge(0)]
    lr: LearningRate
    decay: Decay = Decay.cosine
    warmup: Warmup = 0.1


@dataclass
class DistillationSettings:
    """The dense network as a teacher: its share of the loss (0: none) and the temperature."""

    weight: Fraction = 0.0
    temperature: Annotated[float, Gt(0.0)] = 4.0


@dataclass
class FinetuneSettings(TrainingSettings):
    """Training of the small network."""

    distillation: DistillationSettings = field(default_factory=DistillationSettings)


@dataclass
class Schedule:
    """How long and how fast each phase trains.

    What a file in conf/schedule leaves out is as here; the settings of ADMM are those of
    `admm.settings.AdmmSettings`.
    """

    name: str
    batch_size: Annotated[int, Ge(1)]
    dense: TrainingSettings
    finetune: FinetuneSettings
    admm_iterations: Count
    admm_lr: LearningRate
    admm_epoch: Count = AdmmSettings.admm_epoch
    admm_decay: AdmmDecay = AdmmSettings.admm_decay
    admm_warmup: Warmup = AdmmSettings.admm_warmup
    lr_per: LrPer = AdmmSettings.lr_per
    w_step: WStep = AdmmSettings.w_step
    relaxation: Relaxation = AdmmSettings.relaxation
    dual_step: DualStep = AdmmSettings.dual_step
    sparsity_ramp: Fraction = AdmmSettings.sparsity_ramp
    masked_share: Fraction = AdmmSettings.masked_share
    stopping: Stopping = AdmmSettings.stopping
    stable_iterations: Count = AdmmSettings.stable_iterations
    freeze_support: bool = AdmmSettings.freeze_support
    admm_distillation: DistillationSettings = field(default_factory=DistillationSettings)
    recalibration_batches: Annotated[int, Ge(0)] = 0
    accumulation: Count = 1
    clip_norm: Annotated[float, Gt(0.0)] | None = None
    epoch_parts: Count = 1
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)

    def admm(self) -> AdmmSettings:
        """Read the settings of ADMM training."""
        return AdmmSettings(**{f.name: getattr(self, f.name) for f in fields(AdmmSettings)})

    @property
    def admm_epochs(self) -> int:
        """Epochs of training between the dense network and the cut."""
        return self.admm_iterations * self.admm_epoch


class Export(StrEnum):
    """What else than torch's own formats the small network is written as."""

    none = "none"
    onnx = "onnx"


class Figures(StrEnum):
    """Which runs draw figures: `auto`, all but jobs of a sweep, which draws those of its best."""

    auto = "auto"
    all = "all"
    none = "none"


class Inference(StrEnum):
    """Engines that dense and small network are timed in when the job is over.

    `eager` is a moment's look; `all` adds channels last, torch.compile and ONNX Runtime.
    """

    eager = "eager"
    all = "all"


class Precision(StrEnum):
    """Number format of training: float32, its products in TF32, or autocast to a half format."""

    float32 = "float32"
    tf32 = "tf32"
    bf16 = "bf16"
    fp16 = "fp16"


DEFAULT_MODE = "default"
COMPILE_VALUES = (True, False, DEFAULT_MODE, "reduce-overhead", "max-autotune")
"""Whether torch.compile builds the step, or how; true is its default mode."""


@dataclass
class TrainerSettings:
    """How a training step computes, and who shares it.

    Args:
        precision: Of the arithmetic.
        compile: One of `COMPILE_VALUES`; the default mode is true, by whichever name.
        devices: Processes that train together.
        patience_seconds: How long one that does not answer is waited for.
    """

    precision: Precision
    compile: Annotated[Any, COMPILE_VALUES]  # OmegaConf merges no union here
    devices: Annotated[int, Ge(1)]
    patience_seconds: Annotated[float, Gt(0.0)]

    def __post_init__(self) -> None:
        """Give one thing one name: the default mode is true, and so is 1."""
        for is_compiled, names in ((True, (True, DEFAULT_MODE)), (False, (False,))):
            if self.compile in names:
                self.compile = is_compiled

    @property
    def compile_mode(self) -> str | None:
        """Mode of torch.compile; None to leave networks as they are."""
        if isinstance(self.compile, str):
            return self.compile
        return DEFAULT_MODE if self.compile else None


@dataclass
class TrackingSettings:
    """Where curves and results go."""

    name: TrackingName


Allocation = StrEnum(
    "Allocation", {"uniform": "uniform", "global": "global", "sensitivity": "sensitivity"}
)
"""How a budget is shared among the channel groups: one sparsity for all, one ranking of all, or the
same loss of validation accuracy for each."""


@dataclass
class BudgetSettings:
    """What may remain of the dense network, as a fraction in (0, 1); one of them, or none."""

    macs: float | None
    params: float | None
    latency: float | None
    latency_batch: Annotated[int, Ge(1)]
    allocation: Allocation

    def given(self) -> dict[str, float]:
        """Read what was asked for, by its name."""
        values = {name: getattr(self, name) for name in ("macs", "params", "latency")}
        return {name: value for name, value in values.items() if value is not None}


@dataclass
class ExperimentConfig:
    """One experiment: dense network, ADMM, cut, finetuning, report.

    `dataset`, `model`, `granularity`, `metric`, `method` and `rho_policy` are parts: a `name`, a
    `_target_` that builds the part and its arguments. `train_fn` and `validate_fn` are empty or a
    `_target_` and arguments. `rho` is a number or "auto".
    """

    dataset: dict[str, Any]
    model: dict[str, Any]
    granularity: dict[str, Any]
    metric: dict[str, Any]
    method: dict[str, Any]
    rho_policy: dict[str, Any]
    train_fn: dict[str, Any]
    validate_fn: dict[str, Any]
    schedule: Schedule
    tracking: TrackingSettings
    trainer: TrainerSettings
    sparsity: Annotated[float, Ge(0.0), Lt(1.0)]
    rho: float | int | str
    layers: str | None
    pretrained: str | None
    from_run: str | None
    channel_multiple: Annotated[int, Ge(1)]
    keep_streams: bool
    budget: BudgetSettings
    seed: Annotated[int, Ge(0), Lt(2**32)]
    device: str
    name: str | None
    experiment_name: Annotated[str, MinLen(1)]
    tracking_uri: Annotated[str, MinLen(1)]
    force: bool
    export: Export
    inference: Inference
    figures: Figures


@dataclass
class PlanConfig(ExperimentConfig):
    """An experiment that is planned and not run; `output` is the layers file to write, if any."""

    output: Annotated[str, MinLen(1)] | None


def amounts(config: ExperimentConfig) -> dict[str, float]:
    """Say how much is pruned: by the budget, or by the sparsity that it takes the place of."""
    return config.budget.given() or {"sparsity": config.sparsity}
