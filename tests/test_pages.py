import re
from pathlib import Path

import matplotlib
import nbformat
import pytest

from musicgen.lab.course.pages import export, formula_image, main

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
# What a browser loads by itself. A link that a reader may click is not among it.
LOADED = re.compile(
    r"""<(?:script|img|iframe|audio|video|source|embed|object|input)\b[^>]*?\s(?:src|data)\s*=\s*["']?\s*(?:https?:)?//"""
    r"""|<link\b[^>]*?href\s*=\s*["']?\s*(?:https?:)?//|url\(\s*["']?\s*(?:https?:)?//|@import|from\s+["']https?://""",
    re.IGNORECASE,
)
TEXT = r"""# A page
The gate $i_t = \sigma(W x_t)$ costs $5 or $6, or `$HOME or $PATH`.

$$c_t = f_t \odot c_{t-1}
 + i_t$$

[A link](https://example.org), and $\nosuch{x}$.
"""


@pytest.fixture
def notebook(tmp_path):
    cells = [nbformat.v4.new_markdown_cell(TEXT), nbformat.v4.new_code_cell("print('$a$ and $b$')")]
    path = tmp_path / "a page.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_formulas_become_images_and_other_dollars_stay(notebook):
    page = export(notebook)
    alts = re.findall(r'<img alt="([^"]*)" src="data:image/svg\+xml;', page)
    assert alts == [r"i_t = \sigma(W x_t)", r"c_t = f_t \odot c_{t-1} + i_t"]
    assert "costs $5 or $6, or <code>$HOME or $PATH</code>" in page
    assert r"<code>\nosuch{x}</code>" in page, "a formula that cannot be drawn is shown as it is written"
    assert "$a$ and $b$" in re.sub("<[^>]*>", "", page)


@pytest.mark.parametrize("parse_math", [False, True])
def test_formulas_do_not_depend_on_the_settings_of_figures(parse_math):
    expected = formula_image(r"\frac{a}{b}")
    with matplotlib.rc_context({"text.parse_math": parse_math}):
        assert formula_image(r"\frac{a}{b}") == expected


def test_a_formula_lies_on_the_line_of_the_text():
    below = {tex: float(re.search(r"vertical-align: (-[\d.]+)px", formula_image(tex))[1]) for tex in ("x", "x_t")}
    assert below["x_t"] < -3 < -1.5 < below["x"]


def test_a_page_loads_nothing_from_other_hosts(notebook):
    page = export(notebook)
    assert "https://example.org" in page
    assert LOADED.findall(page) == []
    assert "<script" not in page


@pytest.fixture
def lesson(tmp_path):
    """Write a notebook with settings, code, an exercise, and a glossary beside it."""
    rows = "| term | meaning |\n|---|---|\n| prime | the *opening* |\n| beat, bar | the pulse |\n"
    (tmp_path / "glossary.md").write_text(f"# Glossary\n\n{rows}", encoding="utf-8")
    make = nbformat.v4
    texts = [
        "# 09 Lesson\nA prime has `prime` beats: $prime$.",
        "You learn.\n\n## Settings\nOne number.",
        "## What is a prime?\nThe prime, a bar.",
    ]
    codes = ["import secret_helper", "FULL_RUN = False", "def built():\n    return 1"]
    cells = [each for pair in zip(map(make.new_markdown_cell, texts), map(make.new_code_cell, codes)) for each in pair]
    cells += [make.new_markdown_cell("## Summary\nIt ends.\n\n## Exercises\nWrite."), make.new_code_cell("check()")]
    nbformat.write(make.new_notebook(cells=cells), tmp_path / "09_lesson.ipynb")
    return tmp_path / "09_lesson.ipynb"


def test_a_page_has_contents_and_links_each_term_once(lesson):
    page = export(lesson)
    places = re.findall(r'<a href="#([^"]+)">', page.split('class="contents"')[1].split("</nav>")[0])
    assert places == ["Settings", "What-is-a-prime%3F", "Summary", "Exercises"]
    assert 'id="What-is-a-prime?"' in page
    links = re.findall(r'<a href="glossary.html#([^"]+)" title="([^"]+)">([^<]+)</a>', page)
    assert links == [("prime", "the *opening*", "prime"), ("bar", "the pulse", "bar")]
    assert "<code>prime</code>" in page


def test_slides_show_what_is_built_and_hide_settings_helpers_and_exercises(lesson):
    page = re.sub("<[^>]*>", "", export(lesson, slides=True).split("<main>")[1].split("</main>")[0])
    assert "You learn." in page and "built" in page and "It ends." in page
    hidden = ("secret_helper", "FULL_RUN", "Settings", "One number.", "check()", "Write.")
    assert [word for word in hidden if word in page] == []


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def course_page(request):
    """Export a notebook of the course: the page without the players, and the images of its formulas."""
    images = {}
    with pytest.MonkeyPatch.context() as patch:
        remember = lambda tex: images.setdefault(tex, formula_image(tex))  # noqa: E731
        patch.setattr("musicgen.lab.course.pages.formula_image", remember)
        page = export(request.param)
    return re.sub(r'srcdoc="[^"]*"', "", page), images  # players have a policy of their own


def test_every_picture_of_the_course_has_an_alternative_text(course_page):
    pictures = re.findall(r"<img\b[^>]*>", course_page[0])
    assert [picture[:80] for picture in pictures if not re.search(r'alt="[^"]+"', picture)] == []
    assert "No description has been provided" not in course_page[0]


def test_the_pages_of_the_course_load_nothing_and_show_every_formula(course_page):
    page, images = course_page
    assert LOADED.findall(page) == []
    assert [tex for tex, image in images.items() if image.startswith("`")] == []


def test_slides_begin_at_markdown_cells_and_arrow_keys_turn_them(browser, tmp_path):
    make = nbformat.v4
    cells = [
        make.new_markdown_cell("# One"),
        make.new_code_cell("def two(): ...  # 2"),
        make.new_markdown_cell("## Two $x$"),
    ]
    nbformat.write(make.new_notebook(cells=cells), tmp_path / "a.ipynb")
    (tmp_path / "a.html").write_text(export(tmp_path / "a.ipynb", slides=True), encoding="utf-8")
    page = browser.new_page()
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto((tmp_path / "a.html").as_uri())
    seen = []
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        seen.append(page.locator("section:visible").inner_text().split()[0])
        page.keyboard.press(key)
    assert seen == ["One", "Two", "Two"]
    assert "2" in page.locator("section:visible").inner_text()
    assert all(url.startswith("file:") for url in requests)
    page.close()


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.org/mathjax.js">',
        "<img alt='x' src=//host/badge.svg>",
        '<link rel="stylesheet" href="http://host/a.css">',
        "<style>a { background: url('https://host/a.png') }</style>",
        '<script type="module">import mermaid from "https://cdn.org/mermaid.mjs"</script>',
    ],
)
def test_what_a_page_would_load_is_found(html):
    assert LOADED.search(html)


def test_the_command_writes_a_page_for_each_notebook(notebook, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["pages", str(notebook), "--out", str(tmp_path / "pages")])
    main()
    assert capsys.readouterr().out.strip() == str(tmp_path / "pages" / "a page.html")
    assert "<title>a page</title>" in (tmp_path / "pages" / "a page.html").read_text(encoding="utf-8")
