"""What the tests of iam share."""

from collections.abc import Iterator

import pytest
from django.utils import translation


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    """Services speak the language of whoever asks; the tests read English."""
    with translation.override("en"):
        yield
