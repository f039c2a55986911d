"""Files that appear complete or not at all."""

import pytest

from keras_adaad.writing import write_atomically

pytestmark = pytest.mark.once


def test_a_file_does_not_replace_a_folder(tmp_path):
    folder = tmp_path / "report.json"
    folder.mkdir()
    (folder / "precious.txt").write_text("x")
    with pytest.raises(ValueError, match=r"report\.json', which is a folder"):
        write_atomically(folder, lambda part: part.write_text("{}"))
    assert (folder / "precious.txt").read_text() == "x"
    assert list(tmp_path.iterdir()) == [folder]
    # Another folder does: an exported model is one.
    write_atomically(folder, lambda part: part.mkdir())
    assert folder.is_dir() and not list(folder.iterdir())
