"""The site in a browser: for everybody, in both themes, on a phone, without a network."""

import shutil
from contextlib import contextmanager

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, sync_playwright

from qa_lab.claims.manifest import load_manifest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

QUESTION = load_manifest().published[0]
PAGES = {
    "home": "",
    "question": f"{QUESTION.path}/",
    "notebook": f"notebooks/{QUESTION.path}/",
    "questions": "questions/",
    "ledger": "ledger/",
    "broken": "broken/",
    "audit": "audit/",
    "reference": "reference/",
    "module": "reference/transformer/attention/multi_head/",
    "speed": "reference/speed/",
    "about": "about/",
}
# The twentieth claim is marked up as the first. Axe takes its time, so it sees a few of each.
ENOUGH = {
    ".qa-claim": 3,
    ".qa-statement": 8,
    ".qa-ledger tr": 8,
    ".qa-broken tr": 8,
    ".qa-chapter": 3,
    ".qa-output": 4,
    ".katex": 4,
    ".md-typeset p > a.qa-chip": 6,
    ".highlight code > span": 60,
    ".doc-function": 4,
    ".qa-lab section": 3,
}
THIN_OUT = """enough => {
    for (const [selector, count] of Object.entries(enough))
        [...document.querySelectorAll(selector)].slice(count).forEach(element => element.remove());
    document.querySelectorAll('details').forEach(element => element.open = true);
}"""
RULES = {
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]},
    "resultTypes": ["violations"],
}


@pytest.fixture(scope="module")
def browser():
    """One Chromium for all tests of this file."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser, address):
    """Open a page as a fresh visitor; at the end the visit must have been without trouble."""

    @contextmanager
    def opened(path: str, width: int = 1280, theme: str = "light"):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, reduced_motion="reduce"
        )
        page, trouble = context.new_page(), []
        page.on("console", lambda said: said.type == "error" and trouble.append(said.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on(
            "request",
            lambda asked: (
                asked.url.startswith((address, "data:", "blob:"))
                or trouble.append(f"asked for {asked.url}")
            ),
        )
        page.goto(address + path)
        yield page
        context.close()
        assert trouble == []

    return opened


@pytest.mark.parametrize("language", ["", "zh/"], ids=["en", "zh"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("kind", PAGES)
def test_anybody_can_read_it(visit, kind, theme, width, language):
    with visit(language + PAGES[kind], width, theme) as page:
        overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert overflow <= 0, f"{overflow} px wider than the screen"
        page.evaluate(THIN_OUT, ENOUGH)
        found = Axe().run(page, options=RULES).response["violations"]
        assert [brief(violation) for violation in found] == []


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(
    "path", ["attention/why-scale/", "attention/head-subspaces/", "masks/two-masks/"]
)
def test_anybody_can_move_what_can_be_moved(visit, path, theme, width):
    with visit(path, width, theme) as page:
        assert page.locator(".qa-explore").is_visible()
        overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert overflow <= 0, f"{overflow} px wider than the screen"
        found = Axe().run(page, context=".qa-explore", options=RULES).response["violations"]
        assert [brief(violation) for violation in found] == []


def test_a_wider_head_without_a_scale_looks_at_one_key(visit):
    with visit("attention/why-scale/") as page:
        explorer = page.locator(".qa-explore")
        explorer.get_by_label("nothing").check()
        explorer.get_by_label("Width of the head").fill("12")
        assert says(explorer).startswith("One query, 64 keys: the largest weight is 100 %")
        before = explorer.locator(".qa-bars").inner_html()
        explorer.get_by_role("button", name="Draw again").click()
        assert explorer.locator(".qa-bars").inner_html() != before


def test_a_head_that_is_switched_off_takes_its_place_with_it(visit):
    with visit("zh/attention/head-subspaces/") as page:
        explorer = page.locator(".qa-explore")
        assert "取不回来" not in says(explorer)
        explorer.get_by_role("button", name="头 0").click()
        assert "取不回来" in says(explorer)
        explorer.locator("select").select_option("1")  # one place, which the others look at too
        assert "取不回来" not in says(explorer)
        for head in "123":
            explorer.get_by_role("button", name=f"头 {head}").click()
        assert "取不回来" in says(explorer)


def test_a_mask_without_the_diagonal_leaves_the_first_query_blind(visit):
    with visit("masks/two-masks/") as page:
        explorer = page.locator(".qa-explore")
        explorer.get_by_role("button", name="the").click()
        assert says(explorer) == "“the” may look at 1 of 7 positions: the."
        explorer.locator("select[name=look]").select_option("strict")
        assert "refuses" in says(explorer)
        explorer.locator("select[name=look]").select_option("cross")
        assert says(explorer) == "“[BOS]” may look at 5 of 7 positions: the, cat, sat, on, it."


def says(explorer) -> str:
    """What the explorer says of what it shows."""
    return explorer.locator(".qa-explore__says").inner_text()


def brief(violation: dict) -> tuple[str, ...]:
    """What axe found, in as many words as a failing test needs."""
    node = violation["nodes"][0]
    return violation["id"], node["html"][:200], node["failureSummary"]


def search(page: Page, text: str) -> list[str]:
    """Type it into the search, and return where what is found leads, best first."""
    query = page.locator("[data-md-component=search-query]")
    query.press_sequentially(text)
    return results(page)


def results(page: Page) -> list[str]:
    """Where what was found leads, best first."""
    page.locator(".md-search-result__item").first.wait_for()
    links = page.locator(".md-search-result__link").all()
    return [link.get_attribute("href") for link in links]


@pytest.mark.parametrize(
    ("language", "word"), [("", "variance"), ("zh/", "方差")], ids=["en", "zh"]
)
def test_search_finds_a_word(visit, language, word):
    with visit(language) as page:
        found = search(page, word)
        assert any(QUESTION.path in link for link in found)
        assert not any("/notebooks/" in link for link in found)


def test_search_finds_a_mechanism_behind_the_questions(visit):
    with visit("") as page:
        found = search(page, "multiheadattention")
        assert any("reference/transformer/attention/multi_head/" in link for link in found)
    with visit("") as page:
        assert "/reference/" not in search(page, "padding mask")[0]


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("-1e9", "masks/padding-mask/"),
        ("d_k^-0.5", "attention/why-scale/"),
        ("层归一化", "stability/layernorm-not-batchnorm/"),
        ("KV缓存", "reference/transformer/attention/cache/"),
    ],
)
@pytest.mark.parametrize("language", ["", "zh/"], ids=["en", "zh"])
def test_search_takes_what_is_typed_for_words(visit, address, language, typed, first):
    with visit(language) as page:
        assert search(page, typed)[0].startswith(f"{address}{language}{first}")


def test_text_that_comes_without_a_key_is_searched(visit):
    with visit("") as page:
        page.locator("[data-md-component=search-query]").focus()
        page.keyboard.insert_text("-inf")  # as a menu's paste, or an input method
        assert "masks/padding-mask/" in results(page)[0]


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_anybody_can_read_what_is_found(visit, theme, width):
    with visit("zh/", width, theme) as page:
        if width < 960:
            page.locator("header label.md-header__button[for=__search]").click()
        search(page, "d_k 注意力")
        overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert overflow <= 0, f"{overflow} px wider than the screen"
        found = Axe().run(page, context=".md-search", options=RULES).response["violations"]
        assert [brief(violation) for violation in found] == []


def test_the_ledger_is_filtered(visit):
    with visit("ledger/") as page:
        rows = page.locator(".qa-ledger tbody tr:visible")
        everything = rows.count()
        page.get_by_label("Filter").fill("no such words anywhere")
        assert rows.count() == 0
        page.get_by_label("Filter").fill("softmax")
        assert 0 < rows.count() < everything
        assert page.locator("output").inner_text() == f"{rows.count()} of {everything} shown"
        page.get_by_label("Filter").fill("")
        page.locator("select[name=question]").select_option(QUESTION.slug)
        assert 0 < rows.count() <= everything


def test_the_audit_is_filtered_by_verdict_and_source(visit):
    with visit("zh/audit/") as page:
        rows = page.locator(".qa-statements > li:visible")
        everything = rows.count()
        page.locator("select[name=source]").select_option("003")
        assert 0 < rows.count() < everything


def test_the_language_switch_stays_on_the_page(visit, address):
    for kind in ("question", "notebook", "module"):
        with visit(PAGES[kind]) as page:
            page.locator(".qa-language").click()
            assert page.url == f"{address}zh/{PAGES[kind]}"
            page.locator(".qa-language").click()
            assert page.url == address + PAGES[kind]


def test_a_chip_leads_to_its_claim(visit):
    with visit(PAGES["question"]) as page:
        page.locator("a.qa-chip").first.click()
        assert page.locator(".qa-claim:target").is_visible()


def test_the_theme_can_be_chosen_and_stays(visit):
    with visit("") as page:
        scheme = lambda: page.locator("body").get_attribute("data-md-color-scheme")  # noqa: E731
        assert scheme() == "default"
        for _ in range(2):
            page.locator("[data-md-component=palette] label:visible").click()
        assert scheme() == "slate"
        page.reload()
        assert scheme() == "slate"


def test_the_keyboard_reaches_the_content(visit):
    with visit(PAGES["question"]) as page:
        page.keyboard.press("Tab")
        assert "md-skip" in focused(page)
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("!!document.activeElement.closest('article')")


def focused(page: Page) -> str:
    """The class of the element that has the focus."""
    return page.evaluate("document.activeElement.className")
