"""The navigation lists every question, and links those that are written."""

from qa_lab.claims.manifest import load_manifest
from qa_lab.guide.navigation import UNWRITTEN, navigation


def test_all_questions_are_there_and_only_the_written_ones_are_pages(shelf):
    manifest = load_manifest(shelf / "docs" / "questions.yaml")
    _, questions, *_ = navigation(manifest, "zh")
    index, chapter = questions["题目"]
    assert index == "questions/index.md"
    assert chapter == {"数": [{"为何ten": "numbers/ten.md"}, {"为何eleven": f"{UNWRITTEN}:eleven"}]}
