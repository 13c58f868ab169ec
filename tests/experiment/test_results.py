"""The table of results, cell by cell."""

from __future__ import annotations

from dff_edge.experiment.results import Results, Row, order
from dff_edge.report.machine import Machine

MACHINE = Machine(
    cpu="A CPU",
    cores=2,
    instructions=(),
    system="Linux",
    python="3.10",
    onnxruntime="1.18",
    dff_edge="0.1.0",
    busy_cores=None,
    date="2026-01-01T00:00:00+00:00",
)
ROWS = (
    Row(
        name="frame",
        title="Frame",
        interval=1,
        accuracy=(0.70, 0.72),
        fps=10.0,
        paper_accuracy=71.1,
        paper_fps=1.52,
    ),
    Row(name="dff", title="DFF", interval=5, accuracy=(0.68, 0.69), fps=40.0, paper_fps=5.6),
    Row(name="copied", title="Copied", interval=5, accuracy=(0.6, 0.5)),
)


def results(rows=ROWS, seeds=(0, 1), claims=(("frame", "dff"), ("dff", "no such row"))):
    return Results(
        experiment="table4",
        metric="mIoU",
        seeds=seeds,
        rows=rows,
        orderings=order(rows, claims),
        config={},
        machine=MACHINE,
    )


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_each_row_stands_beside_the_papers():
    lines = results().markdown().splitlines()

    # 0.70 and 0.72 have the standard deviation 0.01 * sqrt(2).
    assert cells(lines[2]) == ["Frame", "1", "71.0 ± 1.4", "10.0", "1.00x", "71.1", "1.52", "1.00x"]
    assert cells(lines[3]) == ["DFF", "5", "68.5 ± 0.7", "40.0", "4.00x", "-", "5.60", "3.68x"]
    assert cells(lines[4])[2:] == ["55.0 ± 7.1", "-", "-", "-", "-", "-"]


def test_columns_are_aligned_and_ruled():
    lines = results().markdown().splitlines()

    assert len({len(line) for line in lines[:5]}) == 1
    assert set(lines[1]) <= set("|-: ")
    assert all("--" in cell for cell in cells(lines[1]))  # Markdown wants a dash before the colon


def test_one_seed_has_no_spread():
    rows = tuple(row.model_copy(update={"accuracy": row.accuracy[:1]}) for row in ROWS)
    text = results(rows, seeds=(4,)).markdown()

    assert "±" not in text
    assert "seed 4" in text


def test_busy_machine_is_told():
    busy = results().model_copy(update={"machine": MACHINE.model_copy(update={"busy_cores": 1.5})})

    assert "kept 1.5 cores busy" in busy.markdown()
    assert "busy" not in results().markdown()


def test_orderings_are_told_with_their_rule():
    text = results().markdown()

    # Differences 0.02 and 0.03: mean 2.5 points, standard error 0.5.
    found = [
        cells(line) for line in text.splitlines() if line.startswith("| Frame") and "+" in line
    ]
    assert found == [["Frame", "DFF", "+2.50", "0.50", "better"]]
    assert "twice its standard error" in text


def test_what_the_table_has_not_is_not_compared():
    assert [(item.first, item.second) for item in results().orderings] == [("frame", "dff")]


def test_json_gives_the_results_back():
    given = results()
    assert Results.model_validate_json(given.model_dump_json()) == given


def test_speed_up_of_a_curve_is_over_its_own_first_point():
    rows = tuple(
        Row(name=f"{title} {length}", title=title, interval=length, accuracy=(0.5,), fps=fps)
        for title, length, fps in (("a", 1, 10.0), ("a", 5, 30.0), ("b", 1, 20.0), ("b", 5, 50.0))
    )

    lines = results(rows, seeds=(0,), claims=()).markdown().splitlines()

    assert [cells(line)[4] for line in lines[2:6]] == ["1.00x", "3.00x", "1.00x", "2.50x"]


def test_rows_at_key_interval_1_are_over_per_frame_evaluation_too():
    rows = tuple(row.model_copy(update={"interval": 1}) for row in ROWS)

    lines = results(rows, claims=()).markdown().splitlines()

    assert [cells(line)[4] for line in lines[2:5]] == ["1.00x", "4.00x", "-"]


def test_without_per_frame_evaluation_there_is_no_speed_up():
    lines = results(ROWS[1:], claims=()).markdown().splitlines()

    assert cells(lines[2])[4] == "-"
