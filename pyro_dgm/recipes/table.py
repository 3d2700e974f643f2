"""The table of results."""

from __future__ import annotations

from .stored import recipes, results

HEAD = ["recipe", "test log-likelihood (or error)", "space", "published", "training", "machine"]


def table() -> str:
    """The results table of tutorials/results.md, in Markdown, from the recorded result files."""
    cells = [[cell.replace("|", r"\|") for cell in row] for row in (HEAD, *rows())]
    head, *lines = (f"| {' | '.join(row)} |" for row in cells)
    return "\n".join([head, "|---" * len(HEAD) + "|", *lines])


def rows() -> list[list[str]]:
    """The cells of the table, a list per recorded result, in Markdown."""
    found = []
    all_recipes = recipes()
    for name, result in results().items():
        figure = result["figure"]
        text = result["text"].removesuffix(f", {figure['space']}")
        published = all_recipes[name].get("published", "")
        for detail in all_recipes[name].get("show", ()):  # details that belong beside the figure
            text += f"; {detail.replace('_', ' ')} {result['details'][detail]:.2f}"
        clock = "CPU min" if "training_cpu_seconds" in result else "min"
        minutes = result.get("training_cpu_seconds", result["training_seconds"]) / 60
        training = f"{minutes:.1f} {clock}"
        found.append([f"`{name}`: {result['title']}", text, figure["space"], published, training, result["machine"]])
    return found
