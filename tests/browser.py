"""Pages as headless Chromium shows them, all of them in one start of the browser."""

import html
import json
import re
import shutil
import subprocess

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs Chromium, which is not installed here")

QUIET = [
    *(
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
    ),
    *("--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--virtual-time-budget=20000"),
]

TELL = """<script>addEventListener("load", () => {
  const tops = [...document.querySelectorAll("mfrac")].map(f => [...f.children].map(c => c.getBoundingClientRect().top));
  const blank = [...document.images].filter(i => i.complete && !i.naturalWidth).length;
  const scrolls = e => e.tagName != "ARTICLE" && (getComputedStyle(e).overflowX == "auto" || scrolls(e.parentElement));
  const cut = [...document.querySelectorAll("article math")].filter(
    m => m.getBoundingClientRect().right > document.documentElement.clientWidth && !scrolls(m.parentElement)
  ).map(m => m.textContent);
  const drawn = [...document.querySelectorAll(".cell_output img, img[src$='/results.png']")];
  const tiny = drawn.filter(i => i.width < 0.6 * i.naturalWidth).map(i => i.alt);
  const seen = {name: window.name, wide: document.documentElement.scrollWidth, tops: tops, blank: blank, cut: cut, tiny: tiny};
  parent.postMessage(JSON.stringify(seen), "*");
})</script>"""
"""A script that tells the page around how wide a page is, where the parts of its fractions are, how many pictures fail, and which
formulas reach over the right edge of a page where nothing can be moved, and which pictures with words in them are too small."""

HEAR = """<!doctype html><meta charset="utf-8"><pre id="heard"></pre><script>
  addEventListener("message", event => { document.getElementById("heard").textContent += event.data + "\\n"; });
</script>"""


def look(pages, widths, folder):
    """What windows of several widths show of pages, by page and width, and what they wrote on the console.

    Pages are looked at through copies beside them, since their links are relative, and side by side: each in a frame.
    """
    copies, frames = {}, []
    for number, page in enumerate(pages):
        copies[page] = page.with_name(f"looked-at-{page.name}")
        text = page.read_text(encoding="utf-8")
        copies[page].write_text(text + TELL, encoding="utf-8")
        for width in widths:
            frames.append(
                f'<iframe name="{number} {width}" width="{width}" height="900" src="{copies[page].as_uri()}"></iframe>'
            )
    around = folder / "pages.html"
    around.write_text(HEAR + "\n".join(frames), encoding="utf-8")
    command = [BROWSER, *QUIET, f"--user-data-dir={folder / 'profile'}", "--dump-dom", around.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    for copy in copies.values():
        copy.unlink()
    heard = re.search(r'<pre id="heard">(.*?)</pre>', done.stdout, re.DOTALL)
    assert heard, done.stderr[-2000:]
    seen = {}
    for told in map(json.loads, html.unescape(heard[1]).split("\n")[:-1]):
        number, width = map(int, told.pop("name").split())
        seen[pages[number], width] = told
    return dict(sorted(seen.items())), [line for line in done.stderr.splitlines() if "CONSOLE" in line]
