"""dff-edge import-weights, as its users type it."""

import json

import torch
import yaml

from dff_edge.trainer.models import ResNet


def _file(tmp_path):
    torch.manual_seed(1)
    tensors = ResNet("resnet18", width=0.125, channels=8).state_dict()
    own = {name: value for name, value in tensors.items() if not name.startswith("feat_conv")}
    torch.save({**own, "fc.weight": torch.zeros(2, 2)}, tmp_path / "resnet.pth")
    return tmp_path / "resnet.pth"


def test_what_is_printed_is_a_configuration(dff_edge, tmp_path):
    done = dff_edge("import-weights", _file(tmp_path), "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "# not imported: fc.weight\n" in done.stdout
    assert yaml.safe_load(done.stdout) == {
        "model": {"feature": {"name": "resnet18", "width": 0.125}},
        "init": {
            "feature": str(tmp_path / "out" / "feature.safetensors"),
            "feature_order": "rgb",
        },
    }


def test_card_as_json(dff_edge, tmp_path):
    done = dff_edge(
        "import-weights", _file(tmp_path), "-o", tmp_path / "out", "--mean", 1, 2, 3, "--json", "-"
    )
    card = json.loads(done.stdout)
    assert card == json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["model"]["mean"] == [1.0, 2.0, 3.0]
    assert "103.53, 116.28, 123.675 (B, G, R), and is written for 1, 2, 3" in card["notes"][0]
    assert card["model"]["std"] == [57.375, 57.12, 58.395]


def test_file_of_no_known_kind(dff_edge, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    done = dff_edge("import-weights", tmp_path / "thesis.txt", "-o", tmp_path / "out")
    assert done.exit_code == 1
    assert "thesis.txt" in done.stderr
    assert "Traceback" not in done.output
