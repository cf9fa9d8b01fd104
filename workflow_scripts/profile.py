"""Sum Snakemake's benchmark files by rule, which shows where a run spends its time."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd


def rule_times(folder: Path) -> pd.DataFrame:
    """Jobs, wall seconds, CPU seconds and peak memory in MB by rule, longest first."""
    files = sorted(folder.rglob("*.tsv"))
    if not files:
        sys.exit(f"{folder}: no benchmark files; run the workflow first")
    frame = pd.concat(
        pd.read_csv(file, sep="\t", na_values="-").assign(rule=file.relative_to(folder).parts[0].removesuffix(".tsv"))
        for file in files
    )
    columns = {
        "jobs": ("s", "size"),
        "wall s": ("s", "sum"),
        "CPU s": ("cpu_time", "sum"),
        "peak MB": ("max_rss", "max"),
    }
    times = frame.groupby("rule").agg(**columns).sort_values("wall s", ascending=False)
    times.loc["total"] = [times["jobs"].sum(), times["wall s"].sum(), times["CPU s"].sum(), times["peak MB"].max()]
    return times.astype({"jobs": int}).map("{:,.0f}".format)


if __name__ == "__main__":
    sys.stdout.write(rule_times(Path(sys.argv[1])).to_markdown(disable_numparse=True, stralign="right") + "\n")
