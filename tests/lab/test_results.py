"""The measured results that notebook 06 shows come with the package."""

from pathlib import Path

import pytest

from musicgen.lab.course import results

SOURCE = Path(__file__).parents[2] / "benchmarks" / "results"
TABLES = sorted(Path(str(results.MEASURED)).glob("*.csv"))


@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.stem)
def test_the_package_has_the_measured_results(table):
    assert table.read_bytes() == (SOURCE / table.name).read_bytes(), "make notebooks copies the new results"


def test_results_are_read_from_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert {row["split"] for row in results.read_results("likeness")} == {"test", "validation"}
    with pytest.raises(ValueError, match="only ablation, ablation_shipped, lesions, likeness"):
        results.read_results("secret")
