"""Wrong command lines of all commands: exit code 2 and the usage, before any work is done."""

import pytest

WRONG_DATA = ("synthetic://street?colour=red", "gopher://x", "cityscapes://?split=val")


@pytest.mark.parametrize("source", WRONG_DATA)
@pytest.mark.parametrize("command", ["evaluate", "benchmark", "calibrate"])
def test_names_of_data_are_part_of_the_command_line(dff_edge, bundle_path, command, source):
    done = dff_edge(command, bundle_path, "--source", source)
    assert done.exit_code == 2
    assert "Usage: " in done.stderr


@pytest.mark.parametrize("command", ["evaluate", "inspect", "export", "run", "deploy"])
def test_model_that_is_not_there_is_a_wrong_command_line(dff_edge, command):
    options = {
        "evaluate": ["--source", "synthetic://street"],
        "export": ["-o", "x"],
        "run": ["0"],
        "deploy": ["--target", "cpu"],
    }
    done = dff_edge(command, "no-such-model", *options.get(command, []))
    assert done.exit_code == 2
    assert "no model of that name comes with dff-edge" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "{bundle}", "synthetic://street?colour=red"],
        ["run", "{bundle}", "synthetic://street?frames=x"],
        ["run", "{bundle}", "frames/*.png?fps=fast"],
        ["run", "{bundle}", "rtsp://"],
        ["run", "{bundle}"],
        ["run", "{bundle}", "0", "-o", "out.avi"],
        ["run", "{bundle}", "0", "-o", "ftp://x/out.mp4"],
        ["run", "{bundle}", "0", "-o", "no/such/folder/out.mp4"],
        ["run", "{bundle}", "0", "-o", "labels://out?replace=maybe"],
        ["run", "{bundle}", "0", "--opacity", "1.5"],
        ["run", "{bundle}", "0", "--threshold", "-1"],
        ["run", "{bundle}", "0", "--log-file", "no/such/folder/log"],
        ["run", "{bundle}", "0", "--quiet", "--verbose"],
        ["deploy", "{bundle}", "--target", "cpu", "--source", "synthetic://street?colour=red"],
        ["deploy", "{bundle}", "--target", "cpu", "--source", "frames/*.png?fps=fast"],
        ["zoo", "avenue"],
        ["inspect", "{bundle}", "--json", "no/such/folder/x.json"],
        ["doctor", "--json", "."],
        ["experiment", "table4", "--config", __file__, "-o", "x", "--set", "nonsense"],
        ["experiment", "table4", "--config", __file__, "-o", "x", "--seeds", "1,1"],
    ],
    ids=" ".join,
)
def test_wrong_command_line_is_exit_code_2(dff_edge, bundle_path, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = dff_edge(*[str(bundle_path) if word == "{bundle}" else word for word in arguments])
    assert done.exit_code == 2, done.output
    assert "Usage: " in done.stderr
    assert list(tmp_path.iterdir()) == []
