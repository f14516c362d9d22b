"""The table and the plot of `benchmarks/training.py`, from its raw figures. It measures nothing and loads no torch."""

import json
import statistics
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

DOCUMENTED = "peer 1 × 4"


def write(found: dict[str, Any], folder: Path) -> Path:
    """Write training.json, training.md and training.png (named by size for random models) to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    options = found["options"]
    name = "training" + (f"-{options['full_size']}" if options["full_size"] else "")
    (folder / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    _plot(found, folder / f"{name}.png")
    path = folder / f"{name}.md"
    path.write_text("\n".join([*_head(found), *_rates(found), *_parts(found), *_runs(found), *_scores(found)]) + "\n")
    return path


def rate(arm: dict[str, Any]) -> float:
    """Median samples per second of an arm."""
    return median(arm, "samples_per_second")


def median(arm: dict[str, Any], key: str) -> float:
    """Median of one figure over an arm's repeats."""
    return statistics.median(result[key] for result in arm["results"])


def _head(found: dict[str, Any]) -> list[str]:
    options, ground = found["options"], found["ground"]
    model = options["full_size"] or options["base_model"]
    return [
        f"# Training, measured beside the diffusers script: {model}",
        "",
        f"Made by `python benchmarks/training.py` in {found['minutes']:.0f} minutes: {ground['device']}, torch {ground['torch']}, "
        f"{options['precision']} U-Net, SDPA attention on both sides, {ground['resolution']} pixels, the same model folder and pictures, "
        f"learning rate {options['learning_rate']:g}. The peer is diffusers' `{Path(options['script']).name}`, run unchanged. "
        f"Every figure is from a process of its own; arms take turns, {options['repeats']} times, and medians are shown.",
        "",
        f"Ceiling: {found['ceiling'] / 1e9:,.0f} GFLOP/s of a square matrix product in the same run. Floor: "
        f"{ground['floor'] / 1e9:,.2f} GFLOP per sample (counted: text encoder and U-Net forward, activations' gradients back); "
        f"encoding one picture with the VAE is {ground['vae_encode'] / 1e9:,.2f} more, which the peer does for every sample.",
        *(["", "**A smoke test: the figures mean nothing.**"] if options["quick"] else []),
    ]


def _rates(found: dict[str, Any]) -> list[str]:
    by = {arm["label"]: arm for arm in found["rates"]}
    documented, equal = rate(by[DOCUMENTED]), rate(by[f"peer {found['options']['batch']}"])
    lines = [
        "", "## Steady state", "",
        "Samples per second between two step boundaries, after the third optimizer step. `a × b` is a samples in b accumulated "
        "passes for the peer (1 × 4 is its documented setting), and a concepts × b samples for ours. Start-up is from starting "
        "the process to the end of the first step.",
        "",
        "| arm | samples/s (all repeats) | ÷ peer documented | ÷ peer at equal batch | share of ceiling | start-up, s | peak memory, MB |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for arm in found["rates"]:
        repeats = ", ".join(f"{result['samples_per_second']:.1f}" for result in arm["results"])
        held = int(min(result.get("slots", arm["slots"]) for result in arm["results"]))
        note = f" (memory holds {held})" if held < arm["slots"] else ""
        lines.append(
            f"| {arm['label']}{note} | **{rate(arm):.1f}** ({repeats}) | {rate(arm) / documented:.2f} | {rate(arm) / equal:.2f} "
            f"| {rate(arm) * found['ground']['floor'] / found['ceiling']:.0%} | {median(arm, 'start_up'):.1f} "
            f"| {median(arm, 'peak_bytes') / 1e6:,.0f} |"
        )
    return lines


def _parts(found: dict[str, Any]) -> list[str]:
    """The lead of the largest pack as a product of factors, each the ratio of two measured rates."""
    batch = found["options"]["batch"]
    ours = [arm for arm in found["rates"] if arm["side"] == "ours"]
    by = {arm["label"]: rate(arm) for arm in found["rates"]}
    best = max(ours, key=rate)
    if not (f"peer {batch}, latents cached" in by and f"ours {batch}" in by and best["slots"] > 1):
        return []
    steps = [
        (f"passes of {batch} samples instead of 1", by[f"peer {batch}"] / by[DOCUMENTED]),
        ("latents encoded once", by[f"peer {batch}, latents cached"] / by[f"peer {batch}"]),
        (
            "the rest of the step: only the new row in the optimizer, no vocabulary copied back, no pictures decoded, "
            "prompts tokenised once, losses fetched in blocks",
            by[f"ours {batch}"] / by[f"peer {batch}, latents cached"],
        ),
        (f"{best['slots']} concepts in one batch", rate(best) / by[f"ours {batch}"]),
    ]
    return [
        "", "## Where the lead comes from", "", "| step | factor |", "|---|---|",
        *(f"| {what} | {factor:.2f} |" for what, factor in steps),
        f"| together: `{best['label']}` over `{DOCUMENTED}` | **{rate(best) / by[DOCUMENTED]:.2f}** |",
    ]  # fmt: skip


def _runs(found: dict[str, Any]) -> list[str]:
    if not found["runs"]:
        return []
    steps = found["options"]["steps"]
    peer = found["runs"][0]
    wall, written = median(peer, "wall"), median(peer, "bytes_written")
    lines = [
        "", f"## Whole runs of {steps} steps × 4 samples", "",
        "From starting the process to its end, loading and saving included. Bytes written: for the peer its output folder with its "
        "documented saving (vectors and training state every 500 steps), for ours every byte put to the store by training, overwritten "
        "ones too (vectors and state every 100 steps, states between). Preparing (squares of the pictures, their latents, once per "
        "concept) is counted apart.",
        "",
        "| run | wall time per concept, s (all repeats) | peer ÷ it | peak memory, MB | bytes written per concept | peer ÷ it | prepared, bytes per concept |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for run in found["runs"]:
        count = run["concepts"]
        own, bytes_ = median(run, "wall") / count, median(run, "bytes_written") / count
        repeats = ", ".join(f"{result['wall'] / count:.1f}" for result in run["results"])
        lines.append(
            f"| {run['label']} | **{own:.1f}** ({repeats}) | {wall / own:.2f} | {median(run, 'peak_bytes') / 1e6:,.0f} "
            f"| {bytes_:,.0f} | {written / bytes_:,.0f} | {median(run, 'bytes_prepared') / count:,.0f} |"
        )
    return lines


def _scores(found: dict[str, Any]) -> list[str]:
    if not found["scores"]:
        return []
    whos = ("class word", "peer", "ours")
    lines = [
        "", "## The words, by the same judge", "",
        "Last step of the solo runs above, on the reporting set. Few concepts: it says that the speed is not bought with the "
        "word, not which side learns better.",
        "", "| concept | CLIP-I: " + " | CLIP-I: ".join(whos) + " | CLIP-T: " + " | CLIP-T: ".join(whos) + " |",
        "|---" * 7 + "|",
    ]  # fmt: skip
    rows = {**found["scores"], "**mean**": _mean(found["scores"])}
    for name, by in rows.items():
        values = [by[who][score] for score in ("clip_i", "clip_t") for who in whos]
        lines.append(f"| {name} | " + " | ".join(f"{value:.3f}" for value in values) + " |")
    return lines


def _mean(scores: dict[str, Any]) -> dict[str, Any]:
    whos = next(iter(scores.values()))
    return {
        who: {score: statistics.fmean(by[who][score] for by in scores.values()) for score in ("clip_i", "clip_t")}
        for who in whos
    }


def _plot(found: dict[str, Any], path: Path) -> None:
    arms = found["rates"][::-1]
    limit = found["ceiling"] / found["ground"]["floor"]
    figure = Figure(figsize=(8, 0.42 * len(arms) + 1.4), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(
        [arm["label"] for arm in arms], [rate(arm) for arm in arms],
        color=["#2a6f97" if arm["side"] == "ours" else "#b0b7bf" for arm in arms],
    )  # fmt: skip
    axes.bar_label(bars, labels=[f"{rate(arm):.1f}  ({rate(arm) / limit:.0%})" for arm in arms], padding=4)
    axes.axvline(limit, color="#c1121f", linestyle="--", linewidth=1)
    axes.text(limit, len(arms) - 0.4, "floor at this machine's ceiling ", ha="right", va="bottom", color="#c1121f")
    axes.set_xlim(0, limit * 1.15)
    axes.set_xlabel("samples per second, steady state (share of the ceiling)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
