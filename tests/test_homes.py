"""Every module has a test file of its name, or a row in README.md that names one."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent
ROW = re.compile(r"^\| `([^`]+\.py)` \| (.+) \|$", re.MULTILINE)


def modules():
    """Yield each module with the place that a test file of its name would have."""
    tops = [ROOT / name for name in ("runtime", "calibration", "trainer")]
    tops += [path for path in (ROOT / "dff_edge").iterdir() if not path.is_symlink()]
    for top in tops:
        for path in [top] if top.suffix == ".py" else sorted(top.rglob("*.py")):
            if not path.name.startswith("__"):
                name = path.relative_to(ROOT)
                inside = name.relative_to("dff_edge") if name.parts[0] == "dff_edge" else name
                yield str(name), TESTS / inside.with_name(f"test_{inside.name}")


def test_every_module_has_a_home():
    rows = dict(ROW.findall((TESTS / "README.md").read_text(encoding="utf-8")))
    homeless = {name for name, test in modules() if not test.is_file()}

    assert homeless == rows.keys()
    for name, tests in rows.items():
        for test in re.findall(r"`([^`]+)`", tests):
            assert (TESTS / test).is_file(), (name, test)
