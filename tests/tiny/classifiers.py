"""The classifiers' track made small: reviews of two words, and a configuration that ends in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SIZE = {"vocab_size": 300, "layers": 2, "hidden_size": 16, "heads": 2, "neurons": 16}
ENCODERS: dict[str, Any] = {
    "task": {"dataset": "reviews.csv", "text_column": "body", "label_column": "verdict", "length": 12},
    "teacher": {"epochs": 3, "checks": 2, "learning_rate": 0.01, "builtin": SIZE},
    "pruning": {"epochs": 4, "checks": 2},
    "qat": {"epochs": 1, "checks": 2},
    "timing": {"repeats": 1},
    "seeds": [0, 3],
    "rows": {"MSP": {}, "MSP+nf4": {}, "MSP+qkd": {}},
}


def write_reviews(path: Path) -> Path:
    rows = [f"{word} film number {index},{word}" for index in range(90) for word in ("good", "bad")]
    path.write_text("\n".join(["body,verdict", *rows]) + "\n")
    return path
