"""``turing``: a blind test of a run's samples, and the score of its answers."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from .. import progress
from ..extras import need
from ..files import write_atomically, write_json
from .runs import open_run
from .show import print_json

PAGE, KEY = "turing.html", "turing-key.json"


def turing(options: Namespace) -> None:
    """Write the page and the key of a blind test, or score answers."""
    if options.answers is not None:
        _score(options)
    else:
        _write(options)


def _write(options: Namespace) -> None:
    """Write the page and its key, which is a file of its own."""
    from ..evaluation.blind import blind_test

    if options.key is not None or options.json:
        raise ValueError("--key and --json belong to --answers: leave them out")
    need("a page of pictures", "pictures")
    opened = open_run(options)
    if not opened.is_picture:
        raise ValueError(f"rows of shape {opened.shape} are no pictures, which people could judge")
    with progress.shown(not options.quiet):
        drawn = opened.pixels(opened.model.sample(options.n))
    test = opened.pixels(opened.dataset.test.x)
    page, key = blind_test(opened.grey(drawn), opened.grey(test), opened.shape, options.n, options.seed)
    write_atomically(opened.folder / PAGE, lambda file: file.write(page.encode()))
    write_json(opened.folder / KEY, key)
    print(
        f"{options.n} pictures in {opened.folder / PAGE}: give judges this file alone. The key is {opened.folder / KEY}"
    )


def _score(options: Namespace) -> None:
    """Print the score of every judge, and of all."""
    from ..evaluation.blind import score_answers

    key = _json(options.key or (options.out or Path(options.run)) / KEY)
    answers = {path: _json(path) for path in options.answers}
    scores = {}
    for path, one in answers.items():
        try:
            scores[path.name] = score_answers(key, one)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    if len(answers) > 1:
        scores["all judges"] = score_answers(key, *answers.values())
    if options.json:
        print_json({name: score.as_dict() for name, score in scores.items()})
        return
    for name, score in scores.items():
        print(f"{name}: {score}")


def _json(path: Path) -> Any:
    """The content of a file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is no JSON ({str(error)[:100]}); expected the file that the page or the command wrote"
        ) from None
