"""Typed outputs: what a model answers and what a data set shows, for terminals and for JSON.

`{"type": …, "value": …}` with the types `text`, `number`, `image`, `audio` and `curves`. Plug-ins
give arrays, tensors or pictures as values; `encoded` turns them into what JSON can hold.
"""

from __future__ import annotations

import base64
import contextlib
import io
import math
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from tsuzuku.core.blendshapes import are_blendshapes
from tsuzuku.core.curve_files import files_of
from tsuzuku.core.errors import WrongInput
from tsuzuku.core.schemas import jsonable
from tsuzuku.core.trees import Tree, is_list, is_tree
from tsuzuku.worker import face_picture

Array = NDArray[Any]

LONGEST_TEXT = 20_000
"""Characters of a text that are handed on."""
LARGEST_SIDE = 4096
"""Pixels of a picture's height or width."""
LONGEST_CURVE = 4096
"""Values of a data set's array that is shown as a curve."""
DEEPEST = 3
"""Levels of dicts and tuples in an item that are shown one by one."""


def typed(value: Any) -> Tree:
    """An output in its typed form; a plain number or text gets its type."""
    if is_tree(value) and "type" in value:
        return value
    number = _number(value)
    if number is not None:
        return {"type": "number", "value": number}
    return {"type": "text", "value": str(value)}


def encoded(outputs: Tree, label: str) -> Tree:
    """Typed outputs as JSON holds them: pictures as PNG and sound as WAV, both in base64.

    What else an output has beside `type` and `value` stays where JSON can say it. Raises
    WrongInput, naming plug-in (`label`) and output, for a value that is not of its type.
    """
    return {name: _encoded(output, f"{label}: {name!r}") for name, output in outputs.items()}


def _encoded(output: Tree, where: str) -> Tree:
    value = output.get("value")
    extras = {k: _plain(v) for k, v in output.items() if k not in ("type", "value")}
    extras = {key: plain for key, plain in extras.items() if plain is not None}
    try:
        match output["type"]:
            case "text":
                made: Tree = {"value": str(value)[:LONGEST_TEXT]}
            case "number":
                made = {"value": None if value is None else _finite(value)}
            case "image":
                picture = pixels(value)
                height, width = picture.shape[:2]
                made = {"value": _base64(png(picture)), "width": width, "height": height}
            case "audio":
                sound, rate = samples_of(output)
                seconds = len(sound) / rate
                made = {"value": _base64(wav(sound, rate)), "seconds": round(seconds, 6)}
                made["sample_rate"] = rate
            case "curves":
                names = output.get("names")
                rows = curves(value, len(names) if is_list(names) else None)
                made = {"value": jsonable(rows.tolist())}
                made["names"] = [str(n) for n in names] if is_list(names) else _numbered(len(rows))
            case other:
                raise ValueError(f"{other!r} is not a type of output")
    except (ValueError, TypeError, KeyError) as error:
        raise WrongInput(f"{where}: {error}.", code="bad_output") from error
    return extras | {"type": output["type"]} | made


def _plain(value: Any) -> Any:
    """A value as JSON holds it; None if it cannot, as for arrays, which are an output's value."""
    if is_tree(value):
        return {str(k): _plain(v) for k, v in value.items()}
    if is_list(value):
        return [_plain(v) for v in value]
    if isinstance(value, bool | str | None):
        return value
    number = _number(value)
    return None if number is None else jsonable(number)


def _number(value: Any) -> int | float | bool | None:
    if isinstance(value, bool | int | float):
        return value
    if not isinstance(value, np.generic | np.ndarray | torch.Tensor):
        return None
    scalar = cast(Any, value)
    single = scalar.item() if scalar.shape == () else None
    return single if isinstance(single, bool | int | float) else None


def _finite(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def array(value: Any) -> Array:
    """An array from a tensor on any device, a picture of PIL, or nested lists of numbers."""
    if isinstance(value, torch.Tensor):
        tensor = value.detach().cpu()
        value = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        made: Array = value.numpy()
    else:
        made = np.asarray(value)
    if made.dtype.kind not in "buif":
        raise ValueError(f"values of type {made.dtype} are no numbers")
    return made


def pixels(value: Any) -> NDArray[np.uint8]:
    """uint8 [H, W], [H, W, 3] or [H, W, 4] from an array of [H, W], [1|3|4, H, W] or [H, W, 1|3|4].

    Floats are taken as 0..1 and cut off beyond; NaN becomes 0. Raises ValueError.
    """
    picture = _channels_last(array(value))
    if picture.dtype.kind == "f":
        scaled = np.nan_to_num(picture.astype(np.float64), nan=0.0, posinf=1.0, neginf=0.0)
        return (scaled.clip(0, 1) * 255).round().astype(np.uint8)
    if picture.dtype.kind == "b":
        return picture.astype(np.uint8) * np.uint8(255)
    return picture.clip(0, 255).astype(np.uint8)


def _channels_last(picture: Array) -> Array:
    shape = list(picture.shape)
    if picture.ndim == 3 and picture.shape[2] not in (1, 3, 4) and picture.shape[0] in (1, 3, 4):
        picture = np.moveaxis(picture, 0, 2)
    if picture.ndim == 3 and picture.shape[2] == 1:
        picture = picture[..., 0]
    right = picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] in (3, 4))
    if not right or not picture.size:
        raise ValueError(f"a picture is [H, W], [H, W, 3] or [3, H, W], not {shape}")
    if max(picture.shape[:2]) > LARGEST_SIDE:
        raise ValueError(f"a picture of {shape} is too large (at most {LARGEST_SIDE} a side)")
    return picture


def png(picture: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(out, format="PNG")
    return out.getvalue()


def samples_of(output: Tree) -> tuple[Array, int]:
    """The sound [time] or [time, channels] of an `audio` output, and its sample rate in Hz."""
    rate = output.get("sample_rate")
    if not isinstance(rate, int | float) or isinstance(rate, bool) or not 0 < rate <= 768_000:
        raise ValueError(f"audio needs a sample_rate in Hz (it is {rate!r})")
    sound = array(output.get("value"))
    shape = list(sound.shape)
    if sound.ndim == 2 and sound.shape[0] < sound.shape[1] and sound.shape[0] <= 8:
        sound = sound.T  # [channels, time], as torch has it
    if sound.ndim not in (1, 2) or (sound.ndim == 2 and sound.shape[1] > 8):
        raise ValueError(f"audio is [time] or [channels, time], not {shape}")
    return sound, int(rate)


def wav(sound: Array, rate: int) -> bytes:
    """A WAV file of 16-bit samples; floats are -1..1 and cut off beyond, NaN is silence."""
    if sound.dtype.kind == "f":
        quiet = np.nan_to_num(sound.astype(np.float64), nan=0.0, posinf=1.0, neginf=-1.0)
        sound = (quiet.clip(-1, 1) * 32767).round()
    elif sound.dtype != np.int16:
        raise ValueError(f"audio is floats in -1..1 or int16, not {sound.dtype}")
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1 if sound.ndim == 1 else sound.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.ascontiguousarray(sound.astype("<i2")).tobytes())
    return out.getvalue()


def curves(value: Any, names: int | None = None) -> NDArray[np.float64]:
    """[curves, time] from [time], [curves, time], or [time, curves] where that fits the names."""
    rows = array(value).astype(np.float64)
    shape = list(rows.shape)
    if rows.ndim == 1:
        rows = rows[None]
    if rows.ndim != 2:
        raise ValueError(f"curves are [time] or [curves, time], not {shape}")
    if names is not None and rows.shape[0] != names:
        if rows.shape[1] != names:
            raise ValueError(f"there are {names} names for curves of {shape}")
        rows = rows.T
    return rows


def _numbered(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def item_outputs(item: Any) -> Tree:
    """What an item of a data set looks like, part by part, as outputs for `encoded`.

    Dicts and tuples are shown by key and position, `a.b` within each other.
    """
    outputs: Tree = {}
    for name, value in _parts(item, "", 0):
        outputs |= _shown(name or "item", value)
    return outputs


def _parts(value: Any, name: str, depth: int) -> Iterator[tuple[str, Any]]:
    if depth < DEEPEST and (is_tree(value) or is_list(value)) and len(value) <= 100:
        named: Any = getattr(value, "_fields", None) or range(len(value))
        pairs = value.items() if is_tree(value) else zip(named, value, strict=True)
        for key, part in pairs:
            yield from _parts(part, f"{name}.{key}" if name else str(key), depth + 1)
    else:
        yield name, value


def _shown(name: str, value: Any) -> Tree:
    if isinstance(value, str) or _number(value) is not None or value is None:
        return {name: typed(value)}
    if not (isinstance(value, torch.Tensor) or hasattr(value, "__array_interface__")):
        return {name: {"type": "text", "value": str(value)[:200]}}
    values: Array = np.zeros(())
    with contextlib.suppress(ValueError):
        values = array(value)
        if values.ndim > 1 and values.dtype.kind in "buf":
            return {name: _picture(_channels_last(values))}
    kind = str(getattr(value, "dtype", type(value).__name__)).removeprefix("torch.")
    outputs: Tree = {name: {"type": "text", "value": f"{kind} {list(np.shape(value))}"}}
    if values.ndim == 1 and 0 < len(values) <= LONGEST_CURVE:
        outputs[f"{name} (curve)"] = {"type": "curves", "value": values, "names": [name]}
    return outputs


def _picture(values: Array) -> Tree:
    """Floats that are not in 0..1 are no brightness; they are stretched to it, and it is said."""
    if values.dtype.kind == "f" and values.size:
        finite = values[np.isfinite(values)].astype(np.float64)
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        if low < -1e-3 or high > 1 + 1e-3:
            stretched = (values.astype(np.float64) - low) / ((high - low) or 1.0)
            return {"type": "image", "value": stretched, "range": [low, high]}
    return {"type": "image", "value": values}


def write_outputs(outputs: Tree, folder: Path, stem: str, label: str) -> Tree:
    """Write pictures, sound and curves as files; the answer for a person, with their paths.

    Curves with names are also written as texts, called `name.csv` and `name.jsonl` in the answer,
    and as `name.webp`, a face that moves, where they are ARKit's.
    """
    answer: Tree = {}
    for name, output in outputs.items():
        value = output.get("value")
        path = folder / f"{stem}-{name.replace('/', '-')}"
        try:
            match output["type"]:
                case "image":
                    answer[name] = _write(path.with_name(f"{path.name}.png"), png(pixels(value)))
                case "audio":
                    content = wav(*samples_of(output))
                    answer[name] = _write(path.with_name(f"{path.name}.wav"), content)
                case "curves":
                    content = io.BytesIO()
                    np.save(content, array(value))
                    answer[name] = _write(path.with_name(f"{path.name}.npy"), content.getvalue())
                    for ending, made in _curve_files(output).items():
                        beside = path.with_name(f"{path.name}.{ending}")
                        answer[f"{name}.{ending}"] = _write(beside, made)
                case _:
                    answer[name] = _plain(value)
        except (ValueError, TypeError) as error:
            raise WrongInput(f"{label}: {name!r}: {error}.", code="bad_output") from error
    return answer


def _curve_files(output: Tree) -> dict[str, bytes]:
    """What else is written of curves, by ending; nothing where they have no names."""
    names = output.get("names")
    if not is_list(names):
        return {}
    called = [str(name) for name in names]
    rows = curves(output["value"], len(called))
    rate = output.get("fps")
    fps = float(rate) if isinstance(rate, int | float) and rate > 0 else None
    texts = files_of(jsonable(rows.T.tolist()), called, fps)
    made = {ending: text.encode() for ending, text in texts.items()}
    if fps and are_blendshapes(called):
        made["webp"] = face_picture.animated(rows, called, fps)
    return made


def _write(path: Path, content: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)
