"""Writing a checkpoint's weights for use elsewhere, and links to files of the server."""

from __future__ import annotations

from urllib.parse import quote

import streamlit as st

from tsuzuku.core.answers import Exported
from tsuzuku.core.trees import Tree
from tsuzuku.dashboard import figures, grids, leaves
from tsuzuku.dashboard.connection import as_browsers_see_it, client, refusals
from tsuzuku.dashboard.words import Both, speaker

FORMATS = {
    "safetensors": Both("safetensors（重みだけ）", "safetensors (weights alone)"),
    "onnx": Both("ONNX", "ONNX"),
    "torchscript": Both("TorchScript", "TorchScript"),
    "pt2": Both("PT2（torch.export）", "PT2 (torch.export)"),
}

say = speaker(
    {
        "format": Both("形式", "Format"),
        "half": Both("半精度（16 ビット）", "Half precision (16 bits)"),
        "export": Both("📤 エクスポート", "📤 Export"),
        "working": Both(
            "書き出して、元のモデルと比べています。1分ほどかかることがあります…",
            "Writing it, and comparing. This may take a minute…",
        ),
        "done": Both("{name} を書き出しました（{size}）。", "{name} has been written ({size})."),
        "sha256": Both("SHA-256", "SHA-256"),
        "report": Both("元の重みとの比較", "Compared with the checkpoint"),
        "worst": Both("元のモデルとの最大の差", "Largest difference from the model"),
        "allowed": Both("{off}（許容 {most}）", "{off} (allowed: {most})"),
        "cases": Both("比べた場合の数", "Cases compared"),
        "rounding": Both(
            "16 ビットに丸めた影響（最大値に対して）", "Moved by 16 bits, of its largest"
        ),
        "axes": Both("入力 `{name}` の形", "Shape of the input `{name}`"),
        "download": Both("⬇️ ダウンロード", "⬇️ Download"),
        "download_size": Both("⬇️ ダウンロード（{size}）", "⬇️ Download ({size})"),
    }
)
say_format = speaker(FORMATS)


@st.fragment
def section(run_id: str, name: str) -> None:
    """Ask for a format, export, and offer what has been written."""
    own = f"{run_id}/{name}"
    first, second, third = st.columns([2, 2, 1], vertical_alignment="bottom")
    kind = first.selectbox(
        say("format"), list(FORMATS), key=f"export_format {own}", format_func=say_format
    )
    half = second.checkbox(say("half"), key=f"export_half {own}")
    done = f"exported {own}"
    if third.button(say("export"), key=f"export {own}", width="stretch"):
        st.session_state.pop(done, None)
        with refusals(), st.spinner(say("working")):
            st.session_state[done] = client().export(run_id, name, kind, half)
    if (exported := st.session_state.get(done)) is not None:
        _show(exported)


def _show(exported: Exported) -> None:
    file = exported.download.rpartition("/")[2]
    st.success(say("done", name=f"`{file}`", size=figures.size(exported.size)), icon="📤")
    grids.facts({say("sha256"): f"`{exported.sha256}`"} | _compared(exported.report))
    download(exported.download, exported.size)


def _compared(report: Tree) -> dict[str, str]:
    """What the server has compared; of a graph only the worst of all cases."""
    if "cases" not in report:
        found = leaves.leaves(report)
        return {f"{say('report')}: `{key}`": leaves.shown(v) for key, v in found.items()}

    def within(off: str, most: Tree) -> str:
        return say("allowed", off=f"{most[off]:.3g}", most=f"{most['tolerance']:g}")

    rows = {say("worst"): within("max_abs_diff", report), say("cases"): str(len(report["cases"]))}
    if rounding := report.get("rounding"):
        rows[say("rounding")] = within("max_diff", rounding)
    shapes = {say("axes", name=name): shape for name, shape in report.get("axes", {}).items()}
    return rows | {name: f"`{' × '.join(map(str, shape))}`" for name, shape in shapes.items()}


def download(path: str, size: int | None = None) -> None:
    """A link by which the browser itself fetches a file from the API: it passes through here not
    at all, however large it is."""
    label = say("download") if size is None else say("download_size", size=figures.size(size))
    st.link_button(label, (as_browsers_see_it()[0] or "") + path)


def checkpoint_path(run_id: str, name: str) -> str:
    """Where the API has the checkpoint's file."""
    return f"/api/checkpoints/{quote(run_id, safe='')}/{quote(name, safe='')}/download"


def model_path(name: str) -> str:
    """Where the API has a trained model's file."""
    return f"/api/models/{quote(name, safe='')}/download"
