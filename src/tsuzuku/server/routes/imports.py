"""What lies in `imports/`: files of other programs, from which runs can begin."""

from __future__ import annotations

from fastapi import APIRouter

from tsuzuku.core.answers import ImportList
from tsuzuku.core.importing import listed
from tsuzuku.server.context import Here
from tsuzuku.server.strict_json import StrictRoute

router = APIRouter(prefix="/api/imports", tags=["checkpoints"], route_class=StrictRoute)


@router.get("")
def imports(here: Here) -> ImportList:
    """The `.pt`, `.pth`, `.ckpt` and `.safetensors` files in the workspace's `imports/`.

    Each says what it has, or why it cannot be used; nothing of them is run. Its `name` is what
    start, resume and the preview take as `specific_checkpoint`.
    """
    return ImportList(imports=listed(here.workspace))
