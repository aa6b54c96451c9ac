"""Every setting of `config.yaml`, with its default, its bounds and what it is for."""

from __future__ import annotations

import string
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from tsuzuku.core.trees import is_tree

SECTIONS = ("checkpoint", "save", "restart", "scheduler_options", "initialize", "distributed")

MILESTONES = [10, 25, 50, 100, 200]


CHECKPOINT_ALIASES = ("checkpoint_interval", "checkpoint_retention")


def render(template: str, model: str, dataset: str, epoch: int, global_step: int) -> str:
    """The file name that a template gives."""
    return template.format(model=model, dataset=dataset, epoch=epoch, global_step=global_step)


def check_template(template: str) -> str:
    """Return `template`; raise ValueError, saying what would be right, if it is not usable."""
    try:
        fields = {part[1] for part in string.Formatter().parse(template) if part[1] is not None}
        if not fields <= {"model", "dataset", "epoch", "global_step"}:
            raise KeyError
        name = render(template, "model", "dataset", 7, 1234)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{template!r} cannot be filled in; it may use {{model}}, {{dataset}}, {{epoch}} "
            "and {global_step}"
        ) from error
    if "/" in name or "\\" in name or name.startswith("."):
        raise ValueError(f"{template!r} has to be a plain file name")
    if not name.endswith((".pt", ".pth")):
        raise ValueError(f"{template!r} has to end in .pt or .pth")
    return template


def _mentions(template: str, field: str) -> bool:
    return any(part[1] == field for part in string.Formatter().parse(template))


def _rename(values: Any, aliases: dict[str, str]) -> Any:
    if not is_tree(values):
        return values
    data = dict(values)
    for alias, name in aliases.items():
        if alias in data:
            if name in data:
                raise ValueError(f"{alias} is another name of {name}; give only one of them")
            data[name] = data.pop(alias)
    return data


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("needs a number, not true or false")
    return value


Count = Annotated[int, BeforeValidator(_no_bool), Field(ge=1)]
"""A whole number from 1."""

Amount = Annotated[int, BeforeValidator(_no_bool), Field(ge=0)]
"""A whole number from 0."""

Rate = Annotated[float, BeforeValidator(_no_bool), Field(ge=0, allow_inf_nan=False)]
"""A finite number from 0."""

Positive = Annotated[float, BeforeValidator(_no_bool), Field(gt=0, allow_inf_nan=False)]


class Section(BaseModel):
    """A group of settings: unknown keys are refused, defaults are checked like the rest."""

    model_config = ConfigDict(extra="forbid", validate_default=True, use_attribute_docstrings=True)


class EarlyStopping(Section):
    patience: Count = 5
    """Stop after this many validations in a row without a better `checkpoint.monitor`."""
    min_delta: Rate = 0.0
    """What counts as better: an improvement by more than this."""


class SchedulerOptions(Section):
    min_lr: Rate = 0.0
    """cosine, plateau: the learning rate never falls below this."""
    step_epochs: Count = 30
    """step: multiply the learning rate by `gamma` every so many epochs."""
    gamma: Positive = 0.1
    """step, plateau: the factor."""
    patience: Amount = 3
    """plateau: validations without improvement before the learning rate falls."""
    pct_start: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """onecycle: the share of the steps in which the learning rate rises."""
    schedule_epochs: Count | None = None
    """cosine, onecycle: epochs over which the schedule runs; after them its last rate stays. null
    for `num_epochs`: a training that is made longer stretches its schedule."""


class CheckpointSettings(Section):
    filename: str = "{model}-{dataset}-epoch-{epoch}.pt"
    """Name of a checkpoint at the end of an epoch."""
    filename_step: str = "{model}-{dataset}-epoch-{epoch}-step-{global_step}.pt"
    """Name of a checkpoint within an epoch (stop, timer, step interval)."""
    latest: str = "{model}-{dataset}-latest.pt"
    """Name of the link to the newest checkpoint."""
    best: str = "{model}-{dataset}-best.pt"
    """Name of the best checkpoint, which outlives the file it came from."""
    save_freq: Count = 1
    """Save every so many epochs (alias `checkpoint_interval`)."""
    every_steps: Count | None = None
    """Also save every so many optimizer steps."""
    every_minutes: Positive | None = None
    """Also save after so many minutes."""
    keep_last_n: Count | None = 10
    """Keep the newest so many (alias `checkpoint_retention`); null keeps all."""
    keep_best_n: Amount = 1
    """Keep the best so many by `monitor`."""
    milestones: list[Count] = MILESTONES
    """Epochs that are always saved and always kept."""
    save_best_only: bool = False
    """At the end of an epoch, save only when `monitor` improved."""
    monitor: str = "val_loss"
    """The metric that says which checkpoint is best."""
    mode: Literal["min", "max"] = "min"
    """Whether a smaller or a larger `monitor` is better."""
    compress_after_n: Count | None = None
    """Compress all but the newest so many, in place; null for none. Weights gain about 8 %."""

    @model_validator(mode="before")
    @classmethod
    def _aliases(cls, values: Any) -> Any:
        return _rename(
            values, {"checkpoint_interval": "save_freq", "checkpoint_retention": "keep_last_n"}
        )

    @field_validator("filename", "filename_step", "latest", "best")
    @classmethod
    def _template(cls, template: str) -> str:
        return check_template(template)

    @model_validator(mode="after")
    def _distinct_names(self) -> Self:
        if not _mentions(self.filename, "epoch"):
            raise ValueError("filename needs {epoch}, else each save would overwrite the last")
        if not _mentions(self.filename_step, "global_step"):
            raise ValueError(
                "filename_step needs {global_step}, else each save would overwrite the last"
            )
        names = [self.filename, self.filename_step, self.latest, self.best]
        if len({render(n, "m", "d", 1, 1) for n in names}) < len(names):
            raise ValueError("filename, filename_step, latest and best need four different names")
        return self


class SaveSettings(Section):
    compact: bool = False
    """Write the final `model.safetensors` in half precision."""


class RestartSettings(Section):
    policy: Literal["never", "on_failure"] = "never"
    """on_failure: a server starts the next attempt by itself when a worker crashed or failed."""
    max_attempts: Count = 3
    """Restarts in a row without a new checkpoint; after that the run stays as it is."""
    delay: Rate = 2.0
    """Seconds before the first restart; doubled for each further one without a new checkpoint."""


class InitializeSettings(Section):
    partial: bool = False
    """Begin from a file of another program even if some names or shapes differ; what does not fit
    is left as the seed has it."""
    epoch: Amount | None = None
    """Completed epochs of such a file, whatever it says itself; null for what it says."""


class DistributedSettings(Section):
    launcher: Literal["local", "torchrun", "ray"] = "local"
    """local: one process. torchrun: one process a device of this machine. ray: on the machines of a
    Ray cluster."""
    devices: Count = 1
    """Ranks (processes with a device each) a machine."""
    nodes: Count = 1
    """ray: machines."""
    address: str | None = None
    """ray: the cluster, as `host:port` or `auto`; null for one that lives as long as the run."""
    resources: dict[str, Rate] = {}
    """ray: what each rank asks for, such as {GPU: 1, CPU: 8}; else one GPU, or one CPU where the
    device is the CPU."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """ddp: every rank holds the whole model. fsdp: each holds a part, for models larger than a
    device."""
    sharded_save: bool = True
    """fsdp: within the run every rank writes its own part of a checkpoint, while the training goes
    on; the last and the best one of a completed run are one file each (docs/scale.md). false
    gathers each save in the first rank's memory while the step waits."""
    sync_batchnorm: bool = False
    """BatchNorm's statistics are those of the whole batch, not of each rank's part of it."""

    @field_validator("resources", mode="before")
    @classmethod
    def _without_null(cls, value: Any) -> Any:
        """null takes a resource away, or all: settings are laid over others key by key."""
        if value is None:
            return {}
        return {k: v for k, v in value.items() if v is not None} if is_tree(value) else value

    @property
    def ranks(self) -> int:
        """Processes that train together."""
        return 1 if self.launcher == "local" else self.devices * self.nodes

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.launcher == "local" and self.devices * self.nodes > 1:
            raise ValueError("launcher local has one device; torchrun and ray have several")
        if self.launcher == "torchrun" and self.nodes > 1:
            raise ValueError("launcher torchrun has one node; ray has several")
        if self.launcher != "ray" and (self.address is not None or self.resources):
            raise ValueError(f"address and resources are for ray, not for {self.launcher}")
        return self


class TrainingSettings(Section):
    seed: Amount = 42
    """Everything that is random follows from this number."""
    num_epochs: Count = 10
    """Epochs in total, over all attempts."""
    batch_size: Count = 32
    """Samples a batch (over all devices)."""
    device_batch_size: Count | None = None
    """Samples that a device computes at once: its part of a batch takes several passes, whose
    gradients add up to those of the whole. null for all at once."""
    optimizer: Literal["AdamW", "Adam", "SGD"] = "AdamW"
    learning_rate: Positive = 1e-3
    weight_decay: Rate = 0.01
    betas: tuple[
        Annotated[float, Field(ge=0, lt=1)],
        Annotated[float, Field(ge=0, lt=1)],
    ] = (0.9, 0.999)
    """AdamW and Adam: decay of the two moments."""
    eps: Positive = 1e-8
    """AdamW and Adam: added to the denominator."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """SGD only."""
    scheduler: Literal["none", "WarmupLR", "cosine", "onecycle", "step", "plateau"] = "none"
    """How the learning rate moves; plateau after each validation, the others at each step."""
    scheduler_options: SchedulerOptions = SchedulerOptions()
    warmup_steps: Amount = 0
    """Optimizer steps in which the learning rate rises (WarmupLR, cosine, step, none)."""
    grad_clip_thresh: Positive | None = 1.0
    """Largest allowed norm of all gradients together; null for no clipping."""
    accumulate_grad_batches: Count = 1
    """Batches whose gradients are averaged before one optimizer step."""
    precision: Literal["32", "bf16", "16"] = "32"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    num_workers: Amount = 0
    """Processes that load batches; the result does not depend on it."""
    log_interval: Count = 10
    """Report progress every so many optimizer steps."""
    validation_split: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share split off for validation where the data set has no validation split; 0 for none."""
    limit_samples: Count | None = None
    """Train on at most so many samples."""
    auto_resume: bool = True
    """`train` goes on from the newest checkpoint of the same model and data set."""
    early_stopping: EarlyStopping | None = None
    freeze: list[Annotated[str, Field(min_length=1)]] = []
    """Parameters that are not trained: names as in the checkpoint, with `*` (`encoder.*`)."""
    deterministic: bool = True
    """Use deterministic kernels wherever torch has them."""
    compile: bool = False
    """Run the model through torch.compile."""
    restart: RestartSettings = RestartSettings()
    """Whether a server starts a run again that ended badly."""
    initialize: InitializeSettings = InitializeSettings()
    """How a run begins from a file of another program (docs/resume.md)."""
    distributed: DistributedSettings = DistributedSettings()
    """On how many devices, and which engine starts them (docs/scale.md)."""
    save: SaveSettings = SaveSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()

    @model_validator(mode="before")
    @classmethod
    def _checkpoint_shortcuts(cls, values: Any) -> Any:
        """Accept the seeds' `checkpoint_interval` and `checkpoint_retention` right here too."""
        if not is_tree(values):
            return values
        data = dict(values)
        for section in SECTIONS:
            if section in data and data[section] is None:
                del data[section]  # left empty in the file: its defaults
        if isinstance(data.get("restart"), str):
            data["restart"] = {"policy": data["restart"]}
        if isinstance(data.get("distributed"), str):
            data["distributed"] = {"launcher": data["distributed"]}
        short = {k: data.pop(k) for k in CHECKPOINT_ALIASES if k in data}
        if short:
            inner = data.get("checkpoint")
            data["checkpoint"] = {**(inner if is_tree(inner) else {}), **short}
        return data

    @field_validator("optimizer", "scheduler", mode="before")
    @classmethod
    def _any_case(cls, value: Any) -> Any:
        if value is None:
            return "none"
        names = [
            "AdamW",
            "Adam",
            "SGD",
            "none",
            "WarmupLR",
            *["cosine", "onecycle", "step", "plateau"],
        ]
        return next((n for n in names if str(value).lower() == n.lower()), value)

    @field_validator("precision", mode="before")
    @classmethod
    def _precision_word(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @property
    def schedule_epochs(self) -> int | None:
        """The epochs that the schedule is made for; None where it does not depend on them."""
        if self.scheduler not in ("cosine", "onecycle"):
            return None
        return self.scheduler_options.schedule_epochs or self.num_epochs

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.scheduler == "WarmupLR" and self.warmup_steps < 1:
            raise ValueError("scheduler WarmupLR needs warmup_steps of at least 1")
        if self.distributed.ranks > self.batch_size:
            raise ValueError(
                f"distributed asks for {self.distributed.ranks} ranks, and a batch of "
                f"{self.batch_size} samples has not one for each"
            )
        return self


class ServerSettings(Section):
    host: str = "127.0.0.1"
    port: Annotated[int, BeforeValidator(_no_bool), Field(ge=1, le=65535)] = 8000
    max_running: Count = 1
    """Trainings that may run at the same time."""
    language: Literal["ja", "en"] = "ja"
    """Language of log texts and of the dashboard."""
    token: Annotated[str, Field(min_length=16)] | None = None
    """Asked of every client; without one here, a server that listens beyond this machine makes its
    own and keeps it in `outputs/server-token`."""
    allowed_hosts: list[str] = []
    """Further host names under which the server may be addressed (behind a proxy, say)."""
    allowed_origins: list[str] = []
    """Further web pages (`https://host:port`) that may use the API from a browser."""
    max_upload_mb: Count = 200
    """Largest file that may be sent to the model."""
    stop_patience: Positive = 600.0
    """Seconds that a stopping training may take for its checkpoint before it is ended."""
    verify_every_hours: Positive | None = 24.0
    """Look, slowly and in the background, whether each checkpoint's bytes are still what was saved,
    this often; what is damaged is moved aside and reported. null for never."""
    inference_idle: Positive = 300.0
    """Seconds after its last use until the process that keeps a model warm ends."""


class WorkspaceSettings(Section):
    """A workspace's `config.yaml`."""

    available_models: list[str] | None = None
    """Names to offer; null for every plug-in found."""
    available_datasets: list[str] | None = None
    models: dict[str, dict[str, Any]] = {}
    """Settings by model; `training` inside one overrides the general training settings."""
    datasets: dict[str, dict[str, Any]] = {}
    training: dict[str, Any] = {}
    server: ServerSettings = ServerSettings()


class RunSettings(Section):
    """The resolved settings of one run, as its `config.yaml` and its checkpoints hold them."""

    model_name: str
    dataset_name: str
    model: dict[str, Any] = {}
    dataset: dict[str, Any] = {}
    training: TrainingSettings
    language: Literal["ja", "en"] = "ja"


SAME_RESULT = frozenset(
    {
        "num_workers",
        "log_interval",
        "auto_resume",
        "save.compact",
        "restart",
        "initialize",
        # these add up in another order; the preview says so, and the run goes on
        "device_batch_size",
        "distributed.launcher",
        "distributed.devices",
        "distributed.nodes",
        "distributed.address",
        "distributed.resources",
        "distributed.strategy",
        "distributed.sharded_save",
        *(
            f"checkpoint.{name}"
            for name in CheckpointSettings.model_fields
            if name not in ("monitor", "mode")
        ),
    }
)
"""Training settings that change neither the weights nor the metrics."""
