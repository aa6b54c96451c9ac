"""What a visitor has chosen in the sidebar: model, data set, checkpoint, settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tsuzuku.client.calls import ResumeOptions, StartOptions
from tsuzuku.core.answers import (
    CheckpointDetails,
    CheckpointInfo,
    Config,
    ImportInfo,
    PluginInfo,
)
from tsuzuku.core.trees import Tree, is_tree
from tsuzuku.dashboard import setting_words, typed
from tsuzuku.dashboard.schema_form import Form

MODEL = "model"
"""The path under which the chosen model is kept."""
OWN_INPUTS = ("num_epochs", "batch_size", "limit_samples")
"""Training settings that have a place of their own, or none in a form: see below."""
NOT_ASKED = (*OWN_INPUTS, "auto_resume")


def full_name(checkpoint: CheckpointInfo) -> str:
    """As the API takes it."""
    return f"{checkpoint.run_id}/{checkpoint.name}"


@dataclass(frozen=True)
class Choice:
    """A model and a data set with their settings, and the checkpoint to resume from, if any.

    Without a checkpoint the settings are the workspace's; with one they are those of its run.
    """

    config: Config
    model: str
    dataset: str
    checkpoint: CheckpointDetails | None = None
    imported: ImportInfo | None = None
    """A file of another program in its place; the settings are the workspace's then."""

    @property
    def begun(self) -> int | None:
        """Completed epochs of what it resumes from; None where that is nothing."""
        if self.checkpoint is not None:
            return self.checkpoint.epoch
        if self.imported is None:
            return None
        initialize: Tree = self.training.get("initialize") or {}
        said = typed.value(f"{self.scope}training.initialize.epoch", initialize.get("epoch"))
        return said if isinstance(said, int) else self.imported.epoch or 0

    @property
    def scope(self) -> str:
        """Where what is typed for this model is kept."""
        return f"{self.model}/"

    @property
    def training(self) -> Tree:
        """The training settings that hold if nothing is typed."""
        if self.checkpoint is not None and (own := self.checkpoint.config.get("training")):
            return own
        return self.config.models[self.model].training or self.config.training_config

    def setting(self, name: str) -> Any:
        """A training setting as it is typed, or as it holds."""
        return typed.value(f"{self.scope}training.{name}", self.training.get(name))

    def forms(self) -> dict[str, Form]:
        """Forms for the settings of the model, of the data set and of the training."""
        model, data = self.config.models[self.model], self.config.datasets[self.dataset]
        training = self.config.training_schema
        return {
            "model": Form(
                f"{self.scope}model.",
                model.json_schema,
                self._of("model", model),
                ["training"],
                _words(model),
            ),
            "dataset": Form(
                f"{self.dataset}/dataset.",
                data.json_schema,
                self._of("dataset", data),
                words=_words(data),
            ),
            "training": Form(
                f"{self.scope}training.", training, self.training, NOT_ASKED, setting_words.TRAINING
            ),
        }

    def _of(self, kind: str, plugin: PluginInfo) -> Tree:
        own = self.checkpoint.config.get(kind) if self.checkpoint is not None else None
        return own if is_tree(own) else plugin.settings

    def start_options(self) -> StartOptions:
        """For a training from the beginning, whatever checkpoints there are."""
        fresh = Choice(self.config, self.model, self.dataset)
        options: StartOptions = {"resume_from_checkpoint": False, "overrides": fresh.overrides()}
        options["epochs"] = self.setting("num_epochs")
        options["batch_size"] = self.setting("batch_size")
        options["lightweight"] = self.lightweight
        return options

    def resume_options(self) -> ResumeOptions:
        """For going on from the checkpoint."""
        options: ResumeOptions = {"overrides": self.overrides(), "lightweight": self.lightweight}
        options["epochs"] = self.setting("num_epochs")
        options["batch_size"] = self.setting("batch_size")
        if self.checkpoint is not None:
            options["specific_checkpoint"] = full_name(self.checkpoint)
        elif self.imported is not None:
            options["specific_checkpoint"] = self.imported.name
        return options

    @property
    def lightweight(self) -> bool:
        return bool(typed.value(f"{self.scope}lightweight", False))

    def overrides(self) -> dict[str, Any]:
        """What is typed and differs from what holds anyway, by full path."""
        heads = {
            "model": f"models.{self.model}.",
            "dataset": f"datasets.{self.dataset}.",
            "training": "training.",
        }
        found = {
            heads[kind] + path: value
            for kind, form in self.forms().items()
            for path, value in form.changed().items()
        }
        limit = self.setting("limit_samples")
        if limit != self.training.get("limit_samples"):
            found["training.limit_samples"] = limit
        return found


def _words(plugin: PluginInfo) -> setting_words.Words:
    return setting_words.PLUGINS.get(plugin.name, {}) if plugin.builtin else {}
