"""Tests, in folders named as the package's rooms; what they share is in ``tests.tiny``."""

import pytest

pytest.register_assert_rewrite("tests.tiny", "tests.workflow.edits", "tests.mechanisms.cases")
