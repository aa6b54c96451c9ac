"""The modules of the live part, one by one, in the browser that runs them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route

from tsuzuku.core.projection import metrics_of
from tsuzuku.core.schemas import Event
from tsuzuku.dashboard.live import HERE
from tsuzuku.dashboard.live.bundle import bundled

ORIGIN = "http://127.0.0.1:9"  # nobody answers there: every request is answered here
ADD = """
const { Curve } = await import('/curves.js');
const curve = new Curve();
const check = (name) => {
  if (new Set([curve.step, curve.value, curve.min, curve.max].map((l) => l.length)).size !== 1) {
    throw new Error(`${name}: lists of different lengths`);
  }
  if (curve.step.some((s, i) => i && s <= curve.step[i - 1])) throw new Error(`${name}: order`);
};
"""


@pytest.fixture(scope="module")
def modules(browser: Browser) -> Iterator[Page]:
    """A page that can import the files as they are."""
    page = browser.new_page()

    def answer(route: Route) -> None:
        name = Path(route.request.url).name
        if name.endswith(".js"):
            route.fulfill(path=HERE / name, content_type="text/javascript")
        else:
            route.fulfill(body="<!doctype html>", content_type="text/html")

    page.route("**/*", answer)
    page.goto(f"{ORIGIN}/")
    yield page
    page.close()


def run(page: Page, code: str, argument: Any = None) -> Any:
    return page.evaluate(f"async (given) => {{ {code} }}", argument)


def test_every_file_is_a_module_of_its_own(modules: Page) -> None:
    names = sorted(path.name for path in HERE.glob("*.js"))
    assert len(names) > 10
    for name in names:
        exported = run(modules, f"return Object.keys(await import('/{name}'))")
        assert exported, name


def test_the_bundle_has_all_of_them_and_one_export(modules: Page) -> None:
    source = bundled(HERE, "live")
    for path in HERE.glob("*.js"):
        assert path.name == "live.js" or f"const ${path.stem} = (() => {{" in source
    exported = run(
        modules,
        "const url = URL.createObjectURL(new Blob([given], {type: 'text/javascript'}));"
        "return Object.keys(await import(url))",
        source,
    )
    assert exported == ["default"]


@pytest.mark.parametrize(
    "line",
    [
        'import * as all from "./other.js";',
        'import { one as two } from "./other.js";\nexport { two };',
        'export { one } from "./other.js";',
    ],
)
def test_the_bundle_takes_no_other_imports_and_exports(tmp_path: Path, line: str) -> None:
    (tmp_path / "other.js").write_text("export const one = 1;\n")
    (tmp_path / "entry.js").write_text(f"{line}\nexport default function entry() {{}}\n")
    with pytest.raises(ValueError, match=r"entry\.js"):
        bundled(tmp_path, "entry")


def test_modules_that_import_each_other_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.js").write_text('import { b } from "./b.js";\nexport const a = b;\n')
    (tmp_path / "b.js").write_text('import { a } from "./a.js";\nexport const b = a;\n')
    with pytest.raises(ValueError, match="itself"):
        bundled(tmp_path, "a")


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("number(0.123456)", "0.1235"),
        ("number(12.3456)", "12.35"),
        ("number(1234.5)", "1235"),
        ("number(0)", "0.000"),
        ("number(1.2345e-7)", "1.23e-7"),
        ("number(-123456789)", "-1.23e+8"),
        ("number(NaN)", "-"),
        ("number(null)", "-"),
        ("number(Infinity)", "-"),
        ("rate(0.001)", "1.00e-3"),
        ("rate(undefined)", "-"),
        ("count(1234567.4)", "1,234,567"),
        ("pace(12.345)", "12.3"),
        ("pace(123456.7)", "123,457"),
        ("span(5, {})", "0:05"),
        ("span(754.4, {})", "12:34"),
        ("span(3723, {})", "1:02:03"),
        ("span(-1, {})", "-"),
        ("span(900000, {days_hours: '{days} d {hours} h'})", "10 d 10 h"),
        ("bytes(512)", "512 B"),
        ("bytes(1234567890)", "1.2 GB"),
        ("bytes(123456789012)", "123 GB"),
        ("percent(99.96)", "100.0 %"),
        ("percent(100)", "100 %"),
        ("fill('{a} and {b}', {a: 1})", "1 and {b}"),
        ("clock(null)", "-"),
        ("clock(86400 * 365)", "1971-01-01"),
    ],
)
def test_numbers_are_short_and_never_nan(modules: Page, call: str, text: str) -> None:
    found = run(modules, f"const f = await import('/format.js'); return f.{call}")
    assert str(found).startswith(text)
    assert "NaN" not in found


EVENTS = [
    {"type": "progress", "payload": {"epoch": 1, "total_epochs": 3, "step": 4, "total_steps": 8,
     "global_step": 4, "loss": 0.5, "learning_rate": 0.1, "grad_norm": None,
     "samples_per_second": 12.0, "metrics": {"accuracy": 0.25, "note": "x"}}},
    {"type": "progress", "payload": {"global_step": 4, "loss": None}},
    {"type": "validation_result", "payload": {"epoch": 1, "global_step": 8, "train_loss": 0.5,
     "val_loss": 0.25, "wer": 1, "note": "text", "flag": True}},
    {"type": "validation_result", "payload": {"epoch": 1, "val_loss": 0.25}},
    {"type": "checkpoint", "payload": {"name": "a.pt", "epoch": 1, "global_step": 8}},
    {"type": "log", "payload": {"level": "info", "message": "m", "global_step": 3}},
]  # fmt: skip


@pytest.mark.parametrize("event", EVENTS)
def test_events_mean_the_same_points_as_in_python(modules: Page, event: dict[str, Any]) -> None:
    code = "return (await import('/points.js')).pointsOf(given)"
    found = run(modules, code, event) or {"step": 0, "values": {}}
    assert (found["step"], found["values"]) == metrics_of(Event(**event, time=0.0))


def test_a_curve_takes_the_server_s_buckets_and_goes_on_live(modules: Page) -> None:
    found = run(
        modules,
        ADD
        + """
        for (const step of [1, 2, 3]) curve.add(step, step);
        curve.load({ step: [1, 2], value: [1, 2], min: [1, 2], max: [1, 2] });
        curve.add(3, 99);  // known already
        curve.add(2, 99);  // of the past: a resumed run says it again
        curve.add(4, 4);
        curve.add(5, null);
        curve.add(6, 6);
        check("live");
        return [curve.step, curve.value, curve.summary()];
        """,
    )
    steps, values, summary = found
    assert steps == [1, 2, 3, 4, 5, 6]
    assert values == [1, 2, 3, 4, None, 6]
    assert summary == {"low": 1, "high": 6, "last": 6, "at": 6}


def test_live_points_are_gathered_into_buckets_of_the_server_s_width(modules: Page) -> None:
    found = run(
        modules,
        ADD
        + """
        const step = Array.from({ length: 1000 }, (_, i) => i * 100);
        const zeros = step.map(() => 0);
        curve.load({ step, value: zeros, min: zeros.map(() => -1), max: zeros.map(() => 1) });
        for (let at = 100000; at < 100300; at++) curve.add(at, at % 100);
        check("buckets");
        const from = 1000;
        return [curve.step.slice(from), curve.value.slice(from), curve.min.slice(from),
                curve.max.slice(from)];
        """,
    )
    assert found == [
        [100000, 100100, 100200],
        [pytest.approx(49.5)] * 3,
        [0, 0, 0],
        [99, 99, 99],
    ]


def test_a_curve_never_grows_without_bounds(modules: Page) -> None:
    """Not even where the server is never asked for a shorter one."""
    found = run(
        modules,
        ADD
        + """
        let most = 0;
        for (let at = 1; at <= 300000; at++) {
          curve.add(at, at % 7 === 0 ? null : Math.sin(at));
          most = Math.max(most, curve.length);
        }
        check("long");
        const { low, high } = curve.summary();
        return [most, curve.step[0], curve.step[curve.length - 1], low, high, curve.full];
        """,
    )
    most, first, last, low, high, _ = found
    assert most <= 4001
    assert first == 1
    assert last > 299_000
    assert (low, high) == (pytest.approx(-1, abs=1e-3), pytest.approx(1, abs=1e-3))


def test_a_detail_takes_the_place_of_its_part(modules: Page) -> None:
    found = run(
        modules,
        ADD
        + """
        for (let at = 0; at < 10; at++) curve.add(at * 10, at);
        const step = [30, 35, 40, 45, 50];
        const values = step.map((s) => s / 10);
        const joined = curve.with({ step, value: values, min: values, max: values });
        return [joined.step, joined.value, curve.with(undefined) === curve];
        """,
    )
    assert found[0] == [0, 10, 20, 30, 35, 40, 45, 50, 60, 70, 80, 90]
    assert found[1] == [0, 1, 2, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9]
    assert found[2] is True


def test_smoothing_is_an_average_that_begins_at_the_first_value(modules: Page) -> None:
    code = "return (await import('/curves.js')).smoothed(given[0], given[1])"
    assert run(modules, code, [[1, 2, None], 0]) == [1, 2, None]
    first, *_, last = run(modules, code, [[5, 5, None, 5], 0.9])
    assert (first, last) == (pytest.approx(5), pytest.approx(5))
    smooth = run(modules, code, [[1.0, 0.0, None, 0.0], 0.5])
    assert smooth[0] == 1
    assert smooth[1] == pytest.approx(1 / 3)
    assert smooth[2] is None
    assert smooth[3] == pytest.approx(1 / 7)


def test_marks_keep_their_labels_apart(modules: Page) -> None:
    code = """
    const { marks } = await import('/figure.js');
    const theme = { mark: '#112233', background: '#ffffff' };
    const words = { resumed_at: 'R {origin}' };
    const resumes = [];
    for (let i = 1; i <= 50; i++) resumes.push({ step: i * 10, label: `<b>${i}</b>` });
    const { shapes, annotations } = marks({ resumes, theme, words }, 100, 500, 570);
    return [shapes.map((s) => s.x0), annotations.map((a) => a.x), annotations[0].text];
    """
    lines, labels, text = run(modules, code)
    assert lines == list(range(100, 501, 10))
    assert labels == [100, 210, 320, 430]
    assert text == "R &lt;b&gt;10&lt;/b&gt;"


def test_a_tail_begins_where_the_histories_part(modules: Page) -> None:
    code = """
    const { tailed } = await import('/chart.js');
    const shown = { step: [1, 2, 3, 10, 11], value: [1, 2, 3, 10, 11] };
    const curve = { step: [4, 5], value: [4, 5] };
    const tail = (after, weight) => tailed(shown, { runId: 'r', after, curve }, weight);
    return [tail(3, 0), tail(0, 0), tail(3, 0.5).value[0]];
    """
    after, before, smooth = run(modules, code)
    assert (after["step"], after["value"]) == ([3, 4, 5], [3, 4, 5])
    assert before["step"] == [4, 5]
    assert smooth == pytest.approx((1 + 2 * 2 + 4 * 3) / 7), "it goes on from the smoothed curve"


def test_tails_are_faint_and_have_one_entry_in_the_legend(modules: Page) -> None:
    code = """
    const { drawing } = await import('/figure.js');
    const theme = { train: '#112233', validation: '#445566', text: '#000000' };
    const words = { metric_loss: 'L', metric_val_loss: 'V', tails: 'left', tail_of: 'of {run}' };
    const home = { theme, words, settings: { smoothing: 0, log: false }, runId: 'x' };
    const values = { step: [1, 2], value: [1, 1], min: [1, 1], max: [1, 1], smooth: [1, 1] };
    const tails = [{ runId: '<b>', step: [2, 3], value: [1, 9] }];
    const curves = [{ key: 'loss', ...values, tails }, { key: 'val_loss', ...values, tails }];
    const { data, layout } = drawing(home, 'loss', curves, 600);
    return [data.map((t) => [t.name, t.showlegend, t.line.color]), data[0].hovertemplate, layout];
    """
    traces, hover, layout = run(modules, code)
    assert traces[:2] == [
        ["left", True, "rgba(17,34,51,0.5)"],
        ["left", False, "rgba(68,85,102,0.5)"],
    ]
    assert [name for name, *_ in traces[2:]] == ["L", "V"]
    assert "of &lt;b&gt;" in hover
    assert layout["showlegend"] is True
    assert "range" not in layout["yaxis"], "a curve that stands still makes room for its tail"


def test_a_line_that_comes_again_is_shown_once_and_in_its_place(modules: Page) -> None:
    """The page of the log was fetched after the number that the events go on from."""
    shown = run(
        modules,
        """
        const { Log } = await import('/log.js');
        const event = (seq) =>
          ({ seq, type: 'log', time: 0, run_id: 'r', payload: { level: 'info', message: 'x' } });
        const log = new Log({ lines_shown: '' }, async () => null);
        document.body.append(log.element);
        const rows = () => [...log.element.querySelectorAll('.tz-row')].map((r) => +r.dataset.seq);
        const seen = [];
        const take = async (...seqs) => {
          log.take(seqs.map(event));
          await new Promise((resolve) => setTimeout(resolve, 150));
          seen.push(rows());
        };
        log.load({ events: [1, 2, 4, 5].map(event), earlier: false });
        await take(4, 5);
        await take(3, 4, 5, 6);
        await take(7, 8);
        return seen;
        """,
    )
    assert shown == [[1, 2, 4, 5], [1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6, 7, 8]]


def test_colours_are_read_as_css_writes_them(modules: Page) -> None:
    code = "const t = await import('/theme.js'); return given.map((c) => [t.parts(c), t.isDark(c)])"
    found = run(modules, code, ["#0e1117", "#fff", "rgb(10, 20, 30)", "rgba(250,250,250,0.5)"])
    assert [colour for colour, _ in found] == [
        [14, 17, 23], [255, 255, 255], [10, 20, 30], [250, 250, 250],
    ]  # fmt: skip
    assert [dark for _, dark in found] == [True, False, True, False]


def test_the_time_left_comes_from_the_pace_of_this_attempt(modules: Page) -> None:
    code = """
    const { Progress } = await import('/progress.js');
    const progress = new Progress();
    const event = (at, step) => ({ time: at, payload: {
      epoch: 1, total_epochs: 2, step, total_steps: 100, global_step: step,
      loss: 1, learning_rate: 1, samples_per_second: 1 } });
    progress.take(event(0, 10));
    const first = progress.eta;
    progress.take(event(5, 20));
    const running = progress.eta;
    progress.take(event(1000, 15));  // an earlier step: another attempt
    const again = progress.eta;
    progress.complete();
    return [first, running, again, progress.share, progress.eta];
    """
    assert run(modules, code) == [None, 90, None, 1, None]
