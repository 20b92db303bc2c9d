"""The files that a pattern names: those behind links too, hidden ones not."""

import pytest

from mmm.core.errors import BadRecipe
from mmm.data.files import find_files


@pytest.fixture
def corpus(tmp_path):
    """A folder with a hidden file, a hidden folder, a link to another folder and one that leads back."""
    for name in ("corpus/a.txt", "corpus/._a.txt", "corpus/.hid/b.txt", "corpus/x/c.TXT", "corpus/x/t.csv", "other/d.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("some words")
    (tmp_path / "corpus" / "linked").symlink_to(tmp_path / "other")
    (tmp_path / "other" / "back").symlink_to(tmp_path / "corpus")
    (tmp_path / "corpus" / "x" / "up").symlink_to(tmp_path)
    return tmp_path / "corpus"


def names(found, root):
    return [str(path.relative_to(root)) for path in found]


def test_a_folder_gives_what_links_lead_to_once_and_nothing_hidden(corpus):
    assert names(find_files(str(corpus), (".txt",), "here"), corpus) == ["a.txt", "linked/d.txt", "x/c.TXT"]


def test_a_folder_and_a_glob_find_the_same(corpus):
    (corpus / "x" / "up").unlink()
    (corpus.parent / "other" / "back").unlink()
    found = find_files(str(corpus / "**" / "*.txt"), (".txt",), "here")
    assert found == [path for path in find_files(str(corpus), (".txt",), "here") if path.suffix == ".txt"]


def test_what_is_hidden_is_found_by_its_own_name(corpus):
    assert names(find_files(str(corpus / ".hid"), (".txt",), "here"), corpus) == [".hid/b.txt"]
    assert names(find_files(str(corpus / "._a.txt"), (".txt",), "here"), corpus) == ["._a.txt"]


def test_nothing_that_can_be_read(corpus):
    with pytest.raises(BadRecipe, match=r"here: .* matches no file"):
        find_files(str(corpus), (".png",), "here")
