"""What the HTTP API answers, as the server sends it and the client reads it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tsuzuku.core.schemas import Attempt, Checkpoint, Curve, Event, Run

Tree = dict[str, Any]


class Answer(BaseModel):
    """An answer; a field that a newer server adds does not trouble an older client."""

    model_config = ConfigDict(extra="ignore")


class Problem(Answer):
    """Every error: one sentence, a stable word for programs, and what would be right."""

    detail: str
    code: str
    hint: str = ""


class Started(Answer):
    message: str
    run_id: str
    attempt: int
    resumed_from: str | None = None
    """`run_id/name` of the checkpoint that it goes on from."""
    mode: Literal["fresh", "continue", "branch"] = "fresh"
    fine_tuning: bool = False
    """Whether only the weights come along."""


class Stopping(Answer):
    message: str
    run_id: str


class Status(Answer):
    """Of the run that is being trained (the newest, if there are several), else of the last one."""

    is_training: bool
    status: Literal[
        "idle", "starting", "running", "stopping", "stopped",
        "completed", "failed", "crashed", "paused",
    ]  # fmt: skip
    """`idle` as long as there has been no run."""
    run_id: str | None = None
    model_name: str | None = None
    dataset_name: str | None = None
    resumed_from: str | None = None
    message: str = ""
    running: list[str] = []
    """The ids of all runs that are being trained."""


class Progress(Answer):
    is_training: bool
    run_id: str | None = None
    current_epoch: int = 0
    """From 1; 0 before the first report."""
    total_epochs: int = 0
    current_step: int = 0
    """Optimizer steps done in this epoch."""
    total_steps: int = 0
    """Optimizer steps of an epoch."""
    global_step: int = 0
    current_loss: float | None = None
    current_learning_rate: float | None = None
    grad_norm: float | None = None
    samples_per_second: float | None = None
    progress: float = 0.0
    """Of the whole run, 0 to 1."""
    eta_seconds: float | None = None
    resumed_from: str | None = None
    server_time: float


class RunInfo(Run):
    model_config = ConfigDict(extra="ignore")

    resumed_from: str | None = None
    """Where the newest attempt went on from."""
    attempts: list[Attempt] = []


class RunList(Answer):
    runs: list[RunInfo]
    total: int
    """Runs in the workspace."""


class Resume(Answer):
    """A place in a curve at which a training went on."""

    step: int
    time: float
    run_id: str
    attempt: int
    resumed_from: str | None


class Tail(Curve):
    """What an ancestor has trained beyond the step at which it was branched from."""

    model_config = ConfigDict(extra="ignore")

    run_id: str
    after: int
    """The global step of the branch."""


class Metrics(Answer):
    run_id: str
    keys: list[str]
    """All metrics that the run has."""
    curves: dict[str, Curve]
    resumes: list[Resume]
    lineage: list[str]
    """The runs whose curves are joined, oldest first."""
    tails: dict[str, list[Tail]] = {}
    """Where they were asked for: by metric, what each ancestor has that is not joined, oldest
    first."""


class Events(Answer):
    events: list[Event]
    next: int
    """Give it as `after` to get what follows."""


class RunLog(Answer):
    """What a run has said, in order, without its progress."""

    events: list[Event]
    earlier: bool
    """Whether there is more before the first of them."""


class CheckpointInfo(Checkpoint):
    model_config = ConfigDict(extra="ignore")

    size_mb: float
    """Millions of bytes."""


class CheckpointList(Answer):
    checkpoints: list[CheckpointInfo]
    total: int
    """Checkpoints in the workspace."""


Part = Literal["weights", "optimizer", "scheduler", "epoch"]


class ImportInfo(Answer):
    """A file of another program in `imports/`, or of this one."""

    name: str
    """`imports/NAME`, as `specific_checkpoint` takes it."""
    size: int
    size_mb: float
    format: Literal["checkpoint", "lightning", "weights", "safetensors"] | None = None
    epoch: int | None = None
    """Completed epochs, as far as the file tells."""
    global_step: int | None = None
    has: list[Part] = []
    left_out: list[str] = []
    """Classes whose objects are not opened, since that would run code."""
    model_name: str | None = None
    dataset_name: str | None = None
    """What the file says that it was trained with."""
    problem: str = ""
    """Why it cannot be used; empty if it can."""


class ImportList(Answer):
    imports: list[ImportInfo]


class CheckpointDetails(CheckpointInfo):
    config: Tree = {}
    metadata: Tree = {}
    sampler_state: Tree = {}
    best_val_loss: float | None = None
    tensors: dict[str, list[str | list[int]]] = {}
    """Of every weight: its type, and its shape."""
    parts: int = 0
    """Files beside its own in which its tensors are; 0 for one file."""
    checked_at: float | None = None
    """When its bytes were last found to be what was saved, in seconds since the epoch."""
    in_use: str = ""
    """Why it cannot be deleted now; empty if it can."""


class Verified(Answer):
    name: str
    run_id: str
    ok: bool
    checked: str = ""
    error: str = ""


class Gathered(Answer):
    name: str
    run_id: str
    gathered: bool
    """Whether it was in parts; else it is as it was."""
    size: int
    sha256: str


class Message(Answer):
    message: str


class Pinned(Answer):
    name: str
    run_id: str
    pinned: bool


class Exported(Answer):
    path: str
    download: str
    """Where a client can fetch the file, below the server's address."""
    size: int
    sha256: str
    format: str
    half: bool = False
    report: Tree = {}
    """How far the export is from the checkpoint. Of weights: `tensors`, `max_abs_diff`. Of a graph:
    `tolerance`, `max_abs_diff`, `max_rel_diff`, `axes` (free ones have names), `cases`, and for
    half precision `rounding`."""


class ExportedFile(Exported):
    """An export that is there."""

    name: str
    run_id: str
    checkpoint: str
    """The name of what was exported."""
    model_name: str = ""
    created_at: float


class ExportList(Answer):
    exports: list[ExportedFile]


class Evaluated(Answer):
    name: str
    run_id: str
    metrics: dict[str, float | None]


class Pruned(Answer):
    removed: list[Tree]
    kept: list[Tree]
    dry_run: bool
    problems: list[str] = []
    """Runs of which nothing is removed, since their newest checkpoint is damaged."""


class TrainedModel(Answer):
    """Weights that a run has left: its best checkpoint, or the final ones of a completed run."""

    name: str
    """`<run_id>-best` or `<run_id>-final`."""
    kind: Literal["best", "final"]
    run_id: str
    model_name: str
    dataset_name: str
    path: str
    size: int
    size_mb: float
    created_at: float
    epoch: int | None = None
    metrics: dict[str, float | None] = {}


class TrainedModels(Answer):
    models: list[TrainedModel]


class PluginInfo(Answer):
    """A model or a data set that there is, as its file says without being run by the server."""

    name: str
    builtin: bool
    sha256: str
    description: str = ""
    json_schema: Tree | None = Field(None, alias="schema")
    """JSON schema of its settings; null until it has been read, or when it cannot be."""
    settings: Tree = {}
    """What config.yaml sets for it."""
    preset: Tree | None = None
    """A model's own training settings."""
    training: Tree | None = None
    """All training settings of a model, as a training without further ones has them."""
    has: dict[str, bool] = {}
    splits: list[str] = []
    error: str = ""
    """What is wrong with the file, in one sentence."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)


class Config(Answer):
    available_models: list[str]
    available_datasets: list[str]
    training_config: Tree
    """The training settings in force, defaults filled in."""
    training_schema: Tree
    models: dict[str, PluginInfo]
    datasets: dict[str, PluginInfo]
    language: Literal["ja", "en"]
    max_running: int = 1
    """Trainings that may run at the same time."""


class DatasetInfo(Answer):
    name: str
    path: str | None = None
    exists: bool | None = None
    """Null when it needs no path."""
    size_mb: float | None = None
    splits: dict[str, int] = {}
    report: list[str | Tree] = []
    """Rows or files that are wrong, as far as the data set says: sentences, or what it has of
    each, such as `row`, `id`, `problem` and `used`."""
    error: str = ""
    downloads: list[str] = []
    """What `POST /api/dataset/download` can fetch for it."""
    makes: list[str] = []
    """What `POST /api/dataset/make` can make for it."""


class Datasets(Answer):
    datasets: list[DatasetInfo]
    downloading: list[str] = []
    """Downloads under way."""
    making: list[str] = []
    """What is being made."""


class Output(Answer):
    """A typed output. Pictures are PNG and sounds WAV files in base64."""

    type: Literal["text", "number", "image", "audio", "curves"]
    value: Any = None

    model_config = ConfigDict(extra="allow")


class Sample(Answer):
    index: int
    outputs: dict[str, Output]
    error: str = ""
    """Why it cannot be shown; it has no outputs then."""


class Samples(Answer):
    dataset_name: str
    split: str
    splits: dict[str, int]
    total: int
    offset: int
    samples: list[Sample]


class Inference(Answer):
    outputs: dict[str, Output]
    transcription: str | None = None
    """Of a speech recognizer."""
    run_id: str
    checkpoint: str
    export: str | None = None
    """The exported file that was run in the place of the checkpoint's network."""
    model_name: str
    first_token_time_ms: float
    inference_time_ms: float
    total_time_ms: float
    warm: bool = False
    """Whether the model had been loaded before."""


class Memory(Answer):
    total: int
    used: int
    percent: float


class Gpu(Answer):
    name: str
    memory_total: int
    memory_used: int
    utilization: float
    temperature: float | None = None


class ProcessInfo(Answer):
    run_id: str
    pid: int
    cpu_percent: float
    memory: int


class System(Answer):
    """Sizes in bytes, uses in percent."""

    hostname: str
    cpu_count: int
    cpu_percent: float
    memory: Memory
    disk: Memory
    """Of the file system that holds `outputs/`."""
    disk_free: int
    gpus: list[Gpu]
    workers: list[ProcessInfo]
    tsuzuku_version: str


class Health(Answer):
    ok: bool
    version: str
