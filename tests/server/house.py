"""A workspace with plug-ins that misbehave, and servers of it that can be killed and replaced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
from api import Api

from plain_plugins import CONFIG, TINY, make_workspace
from servers import Served, free_port, serving, workers

CLASS = "class Tiny(nn.Module):"
FORWARD = 'logits = self.net(batch["x"])\n        loss = F.cross_entropy(logits, batch["y"])\n'

WILFUL = (
    TINY.replace(
        "import torch\n",
        "import os\nimport time\nfrom pathlib import Path\n\n"
        'import torch\n\nprint("my own last words")\n',
        1,
    )
    .replace(
        "    def inference(self, sample):\n",
        """\
    def inference(self, sample):
        Path("entered").touch()
        while Path("hold").exists():
            time.sleep(0.02)
        if Path("die").exists():
            os._exit(3)
""",
    )
    .replace('sample["x"]', 'sample["item"]["x"]')
)
"""Prints at import; its inference waits while `hold` is there, and ends all if `die` is."""

LATE = TINY.replace(
    "        super().__init__()\n",
    '        super().__init__()\n        self.register_buffer("steps", torch.zeros(()))\n',
).replace(
    f"        {FORWARD}",
    f"""\
        if self.training:
            self.steps += 1
            if self.steps > 7:
                raise RuntimeError("the second epoch is too much")
        {FORWARD}""",
    1,
)
"""Trains one epoch of 7 steps, and fails in every attempt after that."""

STUBBORN = TINY.replace(
    f"        {FORWARD}",
    f"        import time\n        time.sleep(3600)\n        {FORWARD}",
    1,
)
"""Its first step takes an hour."""

DEAF = STUBBORN.replace(
    "        import time\n",
    "        import signal, time\n        signal.signal(signal.SIGTERM, signal.SIG_IGN)\n",
)
"""The same, and no SIGTERM ends it."""

EXITS = f"import os\nos._exit(1)\n{TINY}"
"""Whoever imports it is gone."""

MODELS = {
    "tiny": WILFUL,
    "late": LATE,
    "stubborn": STUBBORN,
    "deaf": DEAF,
    "exits": EXITS,
}

SLOW = "datasets.noise.delay"
"""The setting that makes a data set take its time: seconds a sample."""


def make_house(root: Path, **server: Any) -> Path:
    """A workspace with all of them, and with further settings below `server`."""
    lines = "".join(f"  {key}: {value}\n" for key, value in server.items())
    make_workspace(root, CONFIG + lines)
    for name, source in MODELS.items():
        (root / "models" / f"{name}.py").write_text(source)
    noise = root / "datasets" / "noise.py"
    noise.write_text(
        noise.read_text()
        .replace('        self.noise = float(config.get("noise", 0.1))\n',
                 '        self.noise = float(config.get("noise", 0.1))\n'
                 '        self.delay = float(config.get("delay", 0))\n')
        .replace("def __getitem__(self, index):\n",
                 "def __getitem__(self, index):\n        import time\n"
                 "        time.sleep(self.delay)\n")
    )  # fmt: skip
    return root


class House:
    """A workspace, and the server that it has now; the port is always the same."""

    def __init__(self, root: Path, stack: ExitStack) -> None:
        self.root = root
        self.port = free_port()
        self._stack = stack
        self.served: Served
        self.api: Api
        self.serve()

    def serve(self) -> None:
        """Start a server; it answers when this returns."""
        self.served = self._stack.enter_context(serving(self.root, port=self.port))
        self.api = Api(self.served.url)

    def kill_server(self) -> None:
        self.served.kill()

    def workers(self, command: str = "train") -> list[psutil.Process]:
        """Living processes of this workspace with that worker command."""
        found: list[psutil.Process] = []
        for process in workers(self.root):
            try:
                if command in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found

    def worker(self, command: str = "train") -> psutil.Process:
        """The only one."""
        (process,) = self.workers(command)
        return process

    def statuses(self, run_id: str) -> list[str]:
        told = self.api.events(run_id)
        return [e["payload"]["status"] for e in told if e["type"] == "status"]

    def log(self, run_id: str) -> list[str]:
        return [e["payload"]["message"] for e in self.api.events(run_id) if e["type"] == "log"]

    def wait_for_log(self, run_id: str, words: str) -> str:
        def found() -> str | None:
            return next((line for line in self.log(run_id) if words in line), None)

        return self.api.wait(f"a log line with {words!r}", found)

    def rest(self) -> None:
        """Stop what is being trained, and wait for it."""
        while (status := self.api.get("/api/status"))["is_training"]:
            self.api.http.post("/api/train/stop")
            self.api.wait_for_status(status["run_id"], "stopped", "completed", "failed", "crashed")


@contextmanager
def house(root: Path, **server: Any) -> Iterator[House]:
    """A house in which nothing lives any more when the block is left."""
    make_house(root, **server)
    with ExitStack() as stack:
        yield House(root, stack)
