"""Small checkpoints of this repository, and a place to write."""
from pathlib import Path

import pytest

MODELS = Path(__file__).resolve().parents[2] / "Fixtures" / "models"


@pytest.fixture
def models() -> Path:
    return MODELS


@pytest.fixture
def faulty() -> Path:
    return MODELS.parent / "faulty"
