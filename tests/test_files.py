import pytest

from lib import files


def test_a_failed_writer_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "table.csv"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError, match="half way"), files.replacing(path) as beside:
        beside.write_text("ne")
        raise RuntimeError("half way")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_whole(tmp_path):
    for name in ("first", "second"):
        with files.replacing(tmp_path / "run") as beside:
            beside.mkdir()
            (beside / name).write_text(name)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["second"]
    assert len(list(tmp_path.iterdir())) == 1


def test_json_is_read_as_written(tmp_path):
    files.write_json(tmp_path / "a" / "b.json", {"auc": 0.958, "n": 624})
    assert files.read_json(tmp_path / "a" / "b.json") == {"auc": 0.958, "n": 624}
