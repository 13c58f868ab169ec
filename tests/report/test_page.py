"""The page: all in one file, names escaped, numbers as in the table."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from dff_edge.bundle.manifest import ClassInfo
from dff_edge.errors import MissingDependencyError
from dff_edge.report.page import Run, Strip, render_page
from dff_edge.report.pictures import Picture
from dff_edge.report.repeated import Repeated
from dff_edge.report.results import Benchmark

JPEG = b"\xff\xd8 stands for a picture"
EVIL = "<script>alert('x')</script>"
VOID = {"meta", "img", "source", "br", "link"}


class Elements(HTMLParser):
    """All elements with their attributes; an element that is not closed is an error."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


def test_page_needs_no_other_file(benchmark: Benchmark) -> None:
    page = _full(benchmark)

    assert "http://" not in page
    assert "https://" not in page
    assert "@import" not in page
    assert "url(" not in page
    elements = Elements(page).found
    tags = {tag for tag, _ in elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form"}
    targets = [
        value
        for _, attributes in elements
        for name, value in attributes.items()
        if name in ("src", "srcset", "href", "poster", "data", "action")
    ]
    assert len(targets) == 4 + 5 + 1  # plots light and dark, pictures, video
    assert all(target is not None and target.startswith("data:") for target in targets)


def test_names_are_escaped(benchmark: Benchmark) -> None:
    info = benchmark.bundle.model_copy(
        update={
            "classes": (ClassInfo(name=EVIL, colour=(1, 2, 3)),),
            "training_data": EVIL,
            "calibration_source": EVIL,
        }
    )
    settings = benchmark.settings.model_copy(update={"source": EVIL})
    evil = benchmark.model_copy(update={"bundle": info, "settings": settings})
    run = Run(EVIL, EVIL, {"frames": 3, "seconds": 0.1, "fps": 30.0}, EVIL)

    page = render_page(
        evil,
        title=EVIL,
        strips=[Strip(EVIL, _pictures(), EVIL)],
        run=run,
        commands=[EVIL],
        limits=[EVIL],
    )

    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 13
    Elements(page)


def test_numbers_are_those_of_the_table(benchmark: Benchmark) -> None:
    page = _full(benchmark)

    for row in benchmark.rows:
        assert row.accuracy is not None
        assert f"<td>{100 * row.accuracy:.1f}</td><td>{row.fps:.1f}</td>" in page
    headline = benchmark.row("int8", 3)
    assert f"{headline.speedup.low:.2f}&ndash;{headline.speedup.high:.2f}</td>" in page
    assert page.count('<tr class=" shown">') == 1
    for stage in benchmark.stages.stages:
        assert f"</span>{stage.name}</td>" in page
        assert f"{100 * stage.share:.1f} %" in page
    assert benchmark.machine.cpu in page
    assert "dff-edge benchmark b" in page


@pytest.mark.parametrize(("high", "is_told"), [(8.2, True), (19.1, False)])
def test_speed_is_told_only_where_repetitions_agree(
    benchmark: Benchmark, high: float, is_told: bool
) -> None:
    speedup = Repeated(median=8.1, low=7.9, high=high, count=9)
    quiet = benchmark.machine.model_copy(update={"busy_cores": 0.0})
    rows = tuple(row.model_copy(update={"speedup": speedup}) for row in benchmark.rows)
    page = _full(benchmark.model_copy(update={"rows": rows, "machine": quiet}))

    assert ("<b>8.1<small>" in page) is is_told
    assert ("8.10&times;" in page) is is_told
    assert ("fps before" in page) is is_told  # the same ratio, left to the reader
    assert ("too noisy to say: 7.90 to 19.10 in 9 repetitions" in page) is not is_told


def test_pictures_have_their_distance_and_score(benchmark: Benchmark) -> None:
    page = re.sub(r"\s+", " ", _full(benchmark))

    assert "<h3>Key frame<span>&ensp;75.0 % of the pixels right</span></h3>" in page
    assert "<h3>4 frames later</h3>" in page
    assert page.count("<figcaption>truth</figcaption>") == 1
    assert page.count('<div class="row two">') == 1


def test_accuracy_that_was_not_scored_is_a_dash(benchmark: Benchmark) -> None:
    rows = tuple(row.model_copy(update={"accuracy": None}) for row in benchmark.rows)
    page = render_page(benchmark.model_copy(update={"rows": rows}), title="t")

    assert "\N{EN DASH}" in page
    assert "nan" not in re.sub(r"data:[^\"]*", "", page).lower()
    assert "None" not in re.sub(r"data:[^\"]*", "", page)


def test_fp16_is_marked_as_emulated(benchmark: Benchmark) -> None:
    assert "FP16" not in re.sub(r"data:[^\"]*", "", render_page(benchmark, title="t"))
    row = benchmark.row("fp32", 3).model_copy(update={"precision": "fp16"})
    accuracy = {**benchmark.accuracy, "fp16": benchmark.accuracy["fp32"]}
    page = render_page(
        benchmark.model_copy(update={"rows": (*benchmark.rows, row), "accuracy": accuracy}),
        title="t",
    )

    assert "<td>FP16*</td>" in page
    assert "* FP16 is emulated on a CPU" in page
    assert "Its speed here says nothing about a GPU" in page


def test_missing_jinja2_is_named(benchmark: Benchmark, without) -> None:  # type: ignore[no-untyped-def]
    without("jinja2")
    with pytest.raises(MissingDependencyError, match=r"report page .*dff-edge\[report\]"):
        render_page(benchmark, title="t")


def _pictures() -> list[Picture]:
    measure = "of the pixels right"
    return [
        Picture(0, JPEG, JPEG, JPEG, 0.75, measure),
        Picture(4, JPEG, JPEG, None, None, measure),
    ]


def _full(benchmark: Benchmark) -> str:
    return render_page(
        benchmark,
        title="A title",
        strips=[Strip("A street", _pictures())],
        run=Run(
            "a.mp4", "INT8", {"frames": 3, "seconds": 0.1, "fps": 30.0}, "annotated.mp4", b"video"
        ),
        commands=["dff-edge export a -o b", "dff-edge benchmark b"],
        limits=["It is a test."],
    )
