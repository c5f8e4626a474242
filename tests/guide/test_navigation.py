"""The navigation lists every question and every module, and links what is written."""

from qa_lab.guide.library import Library
from qa_lab.guide.navigation import UNWRITTEN, navigation


def parts(shelf, language: str) -> dict:
    library = Library(shelf)
    return {
        title: entry
        for part in navigation(library.manifest, library.lab, language)
        for title, entry in part.items()
    }


def test_all_questions_are_there_and_only_the_written_ones_are_pages(shelf):
    index, chapter = parts(shelf, "zh")["题目"]
    assert index == "questions/index.md"
    assert chapter == {"数": [{"为何ten": "numbers/ten.md"}, {"为何eleven": f"{UNWRITTEN}:eleven"}]}


def test_a_module_is_there_without_being_listed_anywhere(shelf):
    index, *rooms, speed = parts(shelf, "en")["Reference"]
    assert (index, speed) == ("reference/index.md", {"Speed": "reference/speed.md"})
    assert rooms == [
        {"Large": [{"other_tens": "reference/transformer/large/other_tens.md"}]},
        {"Small": [{"tens": "reference/transformer/small/tens.md"}]},
        {"Experiments": [{"count": "reference/experiments/count.md"}]},
    ]
    assert list(parts(shelf, "zh")["代码参考"][1]) == ["大"]
    assert list(parts(shelf, "zh"))[-2:] == ["代码参考", "关于"]
