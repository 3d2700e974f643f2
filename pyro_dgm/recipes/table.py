"""The results table of the README, from the stored result files."""

from __future__ import annotations

from .stored import recipes, results


def table() -> str:
    """The results table of the README, in Markdown, from the recorded result files."""
    rows = [
        "| recipe | test log-likelihood (or error) | space | published | training | machine |",
        "|---|---|---|---|---|---|",
    ]
    known = recipes()
    for name, result in results().items():
        figure = result["figure"]
        value = result["text"].removesuffix(f", {figure['space']}")
        published = known[name].get("published", "")
        for detail in known[name].get("show", ()):  # details that belong beside the figure
            value += f"; {detail.replace('_', ' ')} {result['details'][detail]:.2f}"
        clock = "CPU min" if "training_cpu_seconds" in result else "min"
        minutes = result.get("training_cpu_seconds", result["training_seconds"]) / 60
        rows.append(
            f"| `{name}`: {result['title']} | {value} | {figure['space']} | {published} | {minutes:.1f} {clock} "
            f"| {result['machine']} |"
        )
    return "\n".join(rows)
