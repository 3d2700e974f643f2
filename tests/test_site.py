"""The documentation site is built without warnings, and what its pages name and link to is there."""

import importlib
import os
import re
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browser import look, needs_browser
from sphinx.util.inventory import InventoryFile

import pyro_dgm as dgm
from pyro_dgm.recipes.table import rows
from pyro_dgm.registry import model_classes

SOURCE = Path(__file__).parents[1] / "tutorials"


BUILD = "import gc, sys; gc.disable(); from sphinx.cmd.build import main; sys.exit(main(sys.argv[1:]))"
"""Sphinx without the collection of cycles, which takes a sixth of the time and saves little memory."""


class Page(HTMLParser):
    """What a page links to, and the places in it that links can name."""

    def __init__(self, text):
        super().__init__()
        self.links, self.places, self.formulas = [], {""}, 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.places |= {attrs[key] for key in ("id", "name") if attrs.get(key)}
        self.links += [attrs[key] for key in ("href", "src") if attrs.get(key)]
        self.formulas += tag == "math"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site; the folder of its source is left as it was."""
    out = tmp_path_factory.mktemp("site")
    before = sorted(path for path in SOURCE.rglob("*") if "__pycache__" not in path.parts)
    command = [sys.executable, "-c", BUILD, "-q", "-W", "--keep-going", str(SOURCE), str(out)]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr[-5000:]
    assert sorted(path for path in SOURCE.rglob("*") if "__pycache__" not in path.parts) == before
    return out


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


@pytest.mark.slow
def test_links_within_the_site_lead_somewhere(site, pages):
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            places = pages[target].places if target in pages else {unquote(parts.fragment)}
            if not target.is_file() or unquote(parts.fragment) not in places:
                broken.append(f"{path.relative_to(site)}: {link}")
    assert broken == []


@pytest.mark.slow
def test_pages_need_no_network(site, pages):
    """Scripts, styles and pictures come from the site itself."""
    for path in pages:
        text = path.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img)[^>]*\bsrc=\"(.*?)\"|<link[^>]*stylesheet[^>]*href=\"(.*?)\"", text)
        assert not [link for link in map("".join, loaded) if urlsplit(link).netloc], path
    assert sum(page.formulas for page in pages.values()) > 500


@pytest.mark.slow
def test_every_public_name_is_in_the_reference(site):
    with (site / "objects.inv").open("rb") as stream:
        inventory = InventoryFile.load(stream, "", lambda base, uri: uri)
    found = {name for kind in ("py:class", "py:function", "py:exception") for name in inventory[kind]}
    assert {f"pyro_dgm.{name}" for name in dgm.__all__} | {
        f"pyro_dgm.data.{name}" for name in dgm.data.__all__
    } <= found


@pytest.mark.slow
def test_the_alphabetical_index_has_every_public_name_and_is_found(site, pages):
    index = site / "genindex.html"
    named = {urlsplit(link).fragment for link in pages[index].links}
    assert {f"pyro_dgm.{name}" for name in dgm.__all__} <= named
    for page in ("index", "api/index"):
        links = [link for link in article(site / f"{page}.html").links if urlsplit(link).path]
        assert index in {(site / page).parent.joinpath(urlsplit(link).path).resolve() for link in links}, page


def article(path):
    """What the text of a page links to, without what stands around it on every page."""
    return Page(path.read_text(encoding="utf-8").partition("<article")[2].partition("</article>")[0])


@pytest.mark.slow
def test_models_have_the_verbs_of_bases_that_have_no_entry(site):
    text = (site / "api" / "models-structured.html").read_text(encoding="utf-8")
    assert 'id="pyro_dgm.ClassRBM.predict_proba"' in text


@pytest.mark.slow
def test_the_results_have_a_cell_for_every_column(site):
    """Figures of ``p(y|x)`` among them, whose bar is no border of a cell."""
    body = (site / "results.html").read_text(encoding="utf-8").partition("<tbody>")[2].partition("</tbody>")[0]
    cells = [unescape(re.sub(r"<[^>]*>", "", cell)).strip() for cell in re.findall(r"<td>(.*?)</td>", body, re.S)]
    assert [cell.replace("’", "'") for cell in cells] == [cell.replace("`", "") for row in rows() for cell in row]


@pytest.mark.slow
def test_defaults_are_values_and_commands_have_their_help(site):
    """No name of a constant stands for a default; the page of commands has all of them."""
    signatures = [
        text
        for path in (site / "api").glob("*.html")
        for text in re.findall(r"<dt class=\"sig.*?</dt>", path.read_text(encoding="utf-8"), re.S)
    ]
    defaults = {
        unescape(re.sub(r"<[^>]*>", "", found))
        for text in signatures
        for found in re.findall(r"default_value\">(.*?)</span>", text)
    }
    assert "None" in defaults
    assert not [default for default in defaults if re.fullmatch(r"_?[A-Z_]{3,}", default)]
    places = Page((site / "command-line.html").read_text(encoding="utf-8")).places
    assert {f"command-{name}" for name in ("list", "fit", "evaluate", "sample", "reproduce")} <= places


@pytest.mark.slow
def test_pictures_of_notebooks_are_described(site):
    text = (site / "energy-based-models.html").read_text(encoding="utf-8")
    described = re.findall(r"<img alt=\"(.*?)\"", text)
    assert "45 training rows, made binary" in described
    assert not [alt for alt in described if alt.endswith(".png")]


@pytest.mark.slow
def test_every_notebook_can_be_downloaded_from_its_page(site, pages):
    for notebook in SOURCE.glob("*.ipynb"):
        (link,) = (link for link in pages[site / f"{notebook.stem}.html"].links if link.endswith(".ipynb"))
        assert (site / link).read_bytes() == notebook.read_bytes()


def test_the_start_pages_open_with_a_picture():
    """Before any code, with words for those who do not see it; ``python tutorials/start_picture.py`` draws it."""
    assert (SOURCE / "pictures" / "start.png").is_file()
    for page, alt in (
        (SOURCE / "index.md", r":alt: .{40}"),
        (SOURCE.parent / "README.md", r"!\[.{40}.*\]\(tutorials/"),
    ):
        before = page.read_text(encoding="utf-8").partition("```python")[0]
        assert "pictures/start.png" in before, page
        assert re.search(alt, before), page


def test_pages_name_the_addresses_that_the_metadata_has(monkeypatch):
    monkeypatch.syspath_prepend(SOURCE)
    addresses = importlib.import_module("site_parts").addresses
    (shown,) = addresses({"urls": {"Source & more": "https://host/project"}})
    assert shown == {"name": "Source & more", "url": "https://host/project", "html": "Source &amp; more", "class": ""}
    assert addresses({"name": "pyro-dgm"}) == []


@pytest.mark.slow
def test_no_mathematics_is_left_as_text(site):
    """Dollars and roles that were not understood stay in the text of a page."""
    for path in (site / "api").glob("*.html"):
        text = re.sub(r"<(pre|code|script|style)\b.*?</\1>", "", path.read_text(encoding="utf-8"), flags=re.S)
        text = re.sub(r"<[^>]*>", "", text)
        assert not re.findall(r"\$[^$\n]*\\[^$\n]*\$|:math:", text), path


@pytest.mark.slow
def test_every_model_has_a_card(pages, site):
    links = {urlsplit(link).fragment for link in pages[site / "gallery.html"].links}
    assert {f"pyro_dgm.{name}" for name in model_classes()} <= links


@pytest.mark.slow
@needs_browser
def test_a_browser_shows_a_page_of_every_kind(site, tmp_path):
    """Without an error on the console, with numerators above denominators, no wider than the window, nothing cut or tiny."""
    names = ["index", "genindex", "gallery", "api/models-real-valued", "belief-networks", "guides/own-data", "results"]
    pages, widths = [site / f"{name}.html" for name in names], (1400, 400)
    seen, console = look(pages, widths, tmp_path)
    assert console == []
    assert seen.keys() == {(page, width) for page in pages for width in widths}
    for (page, width), what in seen.items():
        assert what["wide"] <= width, page
        assert what["blank"] == 0, page
        assert what["cut"] == [], page
        assert what["tiny"] == [], page
        assert all(over < under for over, under in what["tops"]), page
        assert what["tops"] or page.stem in ("index", "genindex", "own-data", "results")
