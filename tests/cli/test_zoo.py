"""The shipped models, as the command lists and shows them."""

import json

from click.testing import CliRunner

from dff_edge.bundle import shipped
from dff_edge.cli import main


def test_command_lists_and_shows():
    runner = CliRunner()
    listed = runner.invoke(main, ["zoo"])
    assert listed.exit_code == 0, listed.output
    assert all(f"\n{name} " in listed.stdout for name in shipped.shipped_models())
    facts = json.loads(runner.invoke(main, ["zoo", "street", "--json", "-"]).stdout)
    assert facts["results"]["at_distance"][0] == 0.84
    assert facts["bytes"] == (shipped.MODELS / "street" / "weights.safetensors").stat().st_size
    assert runner.invoke(main, ["zoo", "street"]).stdout.startswith("# street\n")
    unknown = runner.invoke(main, ["zoo", "avenue"])
    assert unknown.exit_code == 2
    message = "'avenue' is no model that comes with dff-edge, expected one of"
    assert message in " ".join(unknown.stderr.split())
