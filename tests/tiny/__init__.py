"""What tests share: models small enough for a test, text and runs of the same size, and ways to look at them."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The repository."""
REFERENCE = ROOT / "tests" / "fixtures" / "reference"
"""A model, the tokens it was run on, and what the official implementations made of it."""
