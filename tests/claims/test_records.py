"""What was proved, recorded or listed is not edited afterwards."""

from dataclasses import FrozenInstanceError, is_dataclass

import pytest

from qa_lab.claims import audit, bounds, claim, evidence, manifest, sample
from qa_lab.guide import bench, broken

MODULES = (audit, bench, bounds, broken, claim, evidence, manifest, sample)
RECORDS = {
    value
    for module in MODULES
    for value in vars(module).values()
    if isinstance(value, type) and is_dataclass(value) and value.__module__ == module.__name__
}


@pytest.mark.parametrize("record", sorted(RECORDS, key=str), ids=lambda record: record.__name__)
def test_a_record_cannot_be_edited(record):
    blank = object.__new__(record)
    with pytest.raises(FrozenInstanceError):
        blank.id = "another"
