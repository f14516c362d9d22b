"""The pages and pictures people look at: whole, escaped, self-contained, and true to the manifest."""

import base64
import io
import re
from html import escape
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from tests.judged_run import EDIT, PLAIN, STEPS, JudgedRun, by_protocol
from ti_core.config import SelectionRule
from ti_core.records import BatchRow, Cells, Finding, Interval, Manifest, Naming, Picture
from ti_core.reporting.curves import COLOURS, curves, plane
from ti_core.reporting.given import framed, given_of, sheet
from ti_core.reporting.report import batch_page, checks, contact_sheet, page


class Reader(HTMLParser):
    """What a browser would be told: all text, all links and sources, all tags, and the rows of all tables."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.pictures: list[dict[str, str]] = []
        self.rows: list[dict[str, str]] = []
        self.text = ""
        self._in_row = False
        self.feed(data.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.links += [given[name] for name in ("src", "href", "xlink:href", "srcset", "action") if name in given]
        if tag == "img":
            self.pictures.append(given)
        if tag == "tr":
            self.rows.append(given | {"text": ""})
            self._in_row = True
        elif tag in ("th", "td"):
            self.handle_data(" ")

    def handle_endtag(self, tag: str) -> None:
        self._in_row = self._in_row and tag != "tr"

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._in_row:
            self.rows[-1]["text"] += data

    def lines(self, mark: str = "") -> list[str]:
        """Text of the table rows, of those marked so."""
        return [" ".join(row["text"].split()) for row in self.rows if row.get("class", "") == mark]


@pytest.fixture(scope="module")
def run() -> JudgedRun:
    return JudgedRun()


@pytest.fixture(scope="module")
def html(run: JudgedRun) -> bytes:
    return page(run.manifest, run.load)


def test_page_loads_nothing(html: bytes) -> None:
    reader = Reader(html)
    assert reader.links
    assert [link for link in reader.links if not link.startswith(("data:", "#"))] == []
    assert "script" not in reader.tags
    assert not re.search(rb"url\((?!#)|@import", html)
    assert b"default-src 'none'" in html


def test_page_shows_all_steps_and_prompts(run: JudgedRun, html: bytes) -> None:
    reader = Reader(html)
    shown = {picture["alt"] for picture in reader.pictures}
    for prompt in PLAIN + EDIT:
        assert prompt.replace("{}", "<cat-toy>") in reader.text
        assert f"class word: {prompt.replace('{}', 'toy')}" in shown
        for step in STEPS:
            assert f"step {step}: {prompt.replace('{}', '<cat-toy>')}" in shown
    assert {f"Training picture {n} of 4" for n in (1, 2, 3, 4)} <= shown
    assert run.manifest.decision.explanation in reader.text
    assert run.manifest.plan.judge_key in reader.text


def test_page_puts_each_tile_in_its_place(html: bytes) -> None:
    sources = {picture["alt"]: picture["src"] for picture in Reader(html).pictures}
    for column, prompt in enumerate(PLAIN + EDIT):
        source = sources[f"step 60: {prompt.replace('{}', '<cat-toy>')}"]
        tile = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).convert("RGB")
        assert tile.size == (24, 24)
        assert np.allclose(np.asarray(tile).mean((0, 1)), JudgedRun.tile_colour(60, column), atol=3)


def test_page_marks_the_chosen_and_the_bad_step(html: bytes) -> None:
    reader = Reader(html)
    sheet, table, told = reader.lines("chosen")
    assert sheet == "step 80 chosen"
    assert table.startswith("80 chosen 0.689")
    assert told == "step 80 chosen"
    sheet, table = reader.lines("looks-bad")
    assert sheet == "step 140 starts to look bad"
    assert table.startswith("140 starts to look bad 0.732")


def test_page_tells_the_reporting_set(html: bytes) -> None:
    rows = Reader(html).lines()
    assert "Score 0.700 0.684" in rows
    assert "CLIP-I over the class word +0.239 [+0.170, +0.280] +0.210 [+0.160, +0.250]" in rows


def test_page_of_an_accepted_word_says_how_to_use_it(html: bytes) -> None:
    text = Reader(html).text
    assert "Accepted" in text
    assert "cat-toy.miniature" in text
    assert "ti show cat-toy" in text
    assert "ti fetch cat-toy --base-model miniature" in text
    assert 'ti generate "a <cat-toy> on a purple background" --out cat-toy.png --base-model miniature' in text
    assert 'load_textual_inversion("cat-toy.safetensors", token="<cat-toy>")' in text


def of_base(run: JudgedRun, **base: str) -> Manifest:
    """The run as if it were of another base model."""
    plan = run.manifest.plan
    other = plan.model_copy(update={"base": plan.base.model_copy(update=base)})
    return run.manifest.model_copy(update={"plan": other})


def test_page_of_a_toy_says_so_and_which_two_lines_make_it_real(run: JudgedRun, html: bytes) -> None:
    text = Reader(html).text
    assert "This is a toy" in text and text.index("This is a toy") < text.index("Use the word")
    assert "export PSEUDOWORD_BASE_MODEL=stable-diffusion-v1-5/stable-diffusion-v1-5\nti train pictures/cat-toy" in text
    real = page(of_base(run, name="someone/sd", slug="sd", kind="sd1"), run.load)
    assert "toy:" not in Reader(real).text.replace("cat-toy", "") and "PSEUDOWORD_BASE_MODEL" not in Reader(real).text


def test_page_loads_a_pinned_model_into_a_stock_pipeline_as_diffusers_spells_it(run: JudgedRun) -> None:
    html = page(of_base(run, name="someone/sd@v1.5", slug="sd", kind="sd1", variant="fp16"), run.load)
    assert 'from_pretrained("someone/sd", revision="v1.5", variant="fp16", torch_dtype' in Reader(html).text


def test_page_of_a_rejected_word_says_so_and_offers_nothing() -> None:
    run = JudgedRun(accepted=False, looks_bad_from=None)
    text = Reader(page(run.manifest, run.load)).text
    assert "Rejected" in text
    assert "Accepted" not in text
    assert "keep what they had" in text
    assert "load_textual_inversion" not in text
    assert "starts to look bad" not in text


def test_page_shows_no_training_pictures_where_the_concept_says_so(run: JudgedRun) -> None:
    concept = run.manifest.plan.concept.model_copy(update={"show_pictures": False})
    plan = run.manifest.plan.model_copy(update={"concept": concept})
    reader = Reader(page(run.manifest.model_copy(update={"plan": plan}), run.load))
    assert not [picture for picture in reader.pictures if picture["alt"].startswith("Training picture")]
    assert "4 training pictures, not shown" in reader.text
    assert [picture for picture in reader.pictures if picture["alt"].startswith("step 80")]


def with_a_cut_picture(run: JudgedRun, **concept: object) -> Manifest:
    """The run as if its first picture had been twice as wide as high, with a finding; one more is of the whole set."""
    plan = run.manifest.plan
    first, *others = plan.images.pictures
    whole = run.blob(Image.new("RGB", (160, 80), (10, 200, 10)))
    cut = first.model_copy(
        update={"width": 320, "height": 160, "crop": (80, 0, 240, 160), "square": first.sha256, "whole": whole}
    )
    findings = (
        Finding(severity="warning", kind="cut", file=first.name, text="It is cut."),
        Finding(severity="hint", kind="setting", file="", text="One setting."),
    )
    images = plan.images.model_copy(update={"pictures": (cut, *others), "findings": findings})
    told = plan.model_copy(update={"images": images, "concept": plan.concept.model_copy(update=concept)})
    return run.manifest.model_copy(update={"plan": told})


def test_page_shows_a_cut_picture_before_and_after_with_what_was_found_of_it(run: JudgedRun) -> None:
    data = page(with_a_cut_picture(run), run.load)
    reader = Reader(data)
    alts = [picture["alt"] for picture in reader.pictures]
    assert "Training picture 1 of 4, as it came" in alts and "Training picture 2 of 4, as it came" not in alts
    assert "320 × 160, 50% cut" in reader.text
    went_in = reader.text.index("What went in")
    assert reader.text.index("One setting.") < went_in < reader.text.index("It is cut.")
    assert "1 finding beside the picture" in reader.text


def test_page_tells_findings_of_pictures_that_are_not_shown(run: JudgedRun) -> None:
    manifest = with_a_cut_picture(run, show_pictures=False)
    reader = Reader(page(manifest, {k: v for k, v in run.blobs.items() if k != cut_of(manifest).whole}.__getitem__))
    assert not [picture for picture in reader.pictures if picture["alt"].startswith("Training picture")]
    assert "It is cut." in reader.text and "50% cut" in reader.text


def cut_of(manifest: Manifest) -> Picture:
    return manifest.plan.images.pictures[0]


def test_the_frame_lies_where_the_square_was_cut(run: JudgedRun) -> None:
    picture = cut_of(with_a_cut_picture(run))
    drawn = np.asarray(framed(picture, Image.new("RGB", (160, 80))))
    marked = np.argwhere(drawn.any(-1))
    assert (marked.min(0) == (0, 40)).all() and (abs(marked.max(0) - (79, 119)) <= 1).all()


def test_a_sheet_of_pictures_is_as_high_as_they_are(run: JudgedRun) -> None:
    plan = with_a_cut_picture(run).plan
    given = given_of(plan, run.load, run.manifest.prepared.squares)
    drawn = Image.open(io.BytesIO(sheet(given)))
    assert drawn.height >= 4 * 160
    pixels = np.asarray(drawn.convert("RGB"))
    assert (pixels[40, 20] == (10, 200, 10)).all()


def test_page_says_at_a_glance_what_to_trust(run: JudgedRun) -> None:
    assert [well for well, _ in checks(run.manifest)] == [True] * 4
    weak = run.manifest.report.model_copy(update={"gain": Interval(value=0.1, low=-0.1, high=0.3), "scaled_t": 0.2})
    last = run.manifest.decision.model_copy(update={"step": STEPS[-1], "looks_bad_from": None})
    doubtful = run.manifest.model_copy(update={"report": weak, "decision": last})
    assert [well for well, _ in checks(doubtful)] == [False, False, True, False]
    text = Reader(page(doubtful, run.load)).text
    assert "Not surely nearer to its pictures" in text and "The last step is the choice: train on" in text


def test_page_tells_the_rule_the_second_opinion_and_what_halving_left_out() -> None:
    run = JudgedRun()
    word = run.manifest.anchors.class_word
    dino = Cells(prompts=PLAIN + EDIT, seeds=(11,), values=((0.123,),) * 12)
    ends = run.manifest.anchors.model_copy(
        update={"class_word": word.model_copy(update={"dino": dino}), "real_dino": 0.777}
    )
    rule = SelectionRule(name="fidelity", floor=0.4)
    seen = [one.model_copy(update={"seeds": 1 if one.step == 20 else 4}) for one in run.manifest.decision.candidates]
    manifest = run.manifest.model_copy(
        update={
            "anchors": ends,
            "scores": tuple(one.model_copy(update={"dino": dino}) for one in run.manifest.scores),
            "plan": run.manifest.plan.model_copy(update={"rule": rule}),
            "decision": run.manifest.decision.model_copy(update={"candidates": tuple(seen)}),
            "table": "t" * 64,
        }
    )
    reader = Reader(page(manifest, run.load))
    assert "20 1 of 4 seeds" in " ".join(reader.lines())
    assert "The score is scaled CLIP-I" in " ".join(reader.text.split())
    assert "keep the floor of 0.4" in reader.text
    assert reader.text.count("0.123") == 1 + len(STEPS) and "0.777" in reader.text
    assert f"blobs/sha256/tt/{'t' * 64}" in reader.text


@pytest.mark.parametrize("steps", [STEPS, (80,), (20, 80)])
def test_the_plane_holds_every_step_and_both_ends(steps: tuple[int, ...]) -> None:
    run = JudgedRun(steps=steps, looks_bad_from=None)
    svg = plane(run.manifest.decision, run.manifest.anchors)
    assert ElementTree.fromstring(svg).tag.endswith("svg")  # noqa: S314  (made here)
    assert svg == plane(run.manifest.decision, run.manifest.anchors)
    assert set(re.findall(r"#[0-9a-f]{6}\b", svg.decode())) <= set(COLOURS.values())


def test_page_escapes_everything() -> None:
    hostile = "<script>alert('{}')</script>\"><img src=http://example.org/x>"
    run = JudgedRun(class_word="<i>toy</i>", plain=("a photo of a {}", hostile), warnings=("<script>warn()</script>",))
    explained = run.manifest.decision.model_copy(update={"explanation": "<b onclick=x>why</b>"})
    data = page(run.manifest.model_copy(update={"decision": explained}), run.load)
    reader = Reader(data)
    assert "script" not in reader.tags
    assert "i" not in reader.tags
    assert [link for link in reader.links if not link.startswith(("data:", "#"))] == []
    assert escape("<script>warn()</script>") in data.decode()
    assert "<b onclick=x>why</b>" in reader.text


def test_page_with_a_step_that_was_not_given_a_prompt() -> None:
    run = JudgedRun()
    first = run.manifest.scores[0]
    fewer = first.clip_i.model_copy(update={"prompts": PLAIN[:5], "values": first.clip_i.values[:5]})
    first = first.model_copy(update={"clip_i": fewer, "strip": run.strip(20, 11)})
    manifest = run.manifest.model_copy(update={"scores": (first, *run.manifest.scores[1:])})
    reader = Reader(page(manifest, run.load))
    alts = {picture["alt"] for picture in reader.pictures}
    assert f"step 20: {PLAIN[5].replace('{}', '<cat-toy>')}" not in alts
    assert f"step 20: {EDIT[5].replace('{}', '<cat-toy>')}" in alts
    assert reader.text.count("not made") == 1


def test_page_stays_under_two_megabytes_and_never_changes() -> None:
    run = JudgedRun(side=160)  # the largest tile that judging keeps; noise is the worst case to compress
    first, second = page(run.manifest, run.load), page(run.manifest, run.load)
    assert first == second
    assert len(first) < 2_000_000


def test_page_is_made_from_a_stored_manifest(run: JudgedRun, html: bytes) -> None:
    stored = Manifest.from_bytes(run.manifest.to_bytes(), "manifest")
    assert page(stored, run.load) == html


def test_contact_sheet_fits_and_frames_the_chosen_step(run: JudgedRun) -> None:
    sheet = Image.open(io.BytesIO(contact_sheet(run.manifest, run.load, max_width=900)))
    pixels = np.asarray(sheet.convert("RGB"))
    assert 800 < sheet.width <= 900
    accent = tuple(int(COLOURS["accent"][at : at + 2], 16) for at in (1, 3, 5))
    framed = np.flatnonzero((pixels == accent).all(-1)[:, 0])
    middle = int(framed.mean())
    pitch = framed[-1] - framed[0]
    assert abs(pitch - (900 - 110) // 12) < 12  # one row high
    tile = pixels[middle - 10 : middle + 10, 150:165].mean((0, 1))
    assert np.allclose(tile, JudgedRun.tile_colour(80, 0), atol=6)


def test_contact_sheet_breaks_a_long_word() -> None:
    run = JudgedRun(name="a" * 64)
    sheet = Image.open(io.BytesIO(contact_sheet(run.manifest, run.load)))
    assert sheet.width <= 1600


@pytest.mark.parametrize("steps", [STEPS, (80,), tuple(range(250, 3001, 250))])
def test_curves_in_both_forms(steps: tuple[int, ...]) -> None:
    run = JudgedRun(steps=steps, chosen=steps[-1] if 80 not in steps else 80, looks_bad_from=None)
    decision, anchors = run.manifest.decision, run.manifest.anchors
    svg = curves(decision, anchors)
    root = ElementTree.fromstring(svg)  # noqa: S314  (made here)
    assert root.tag.endswith("svg")
    assert svg == curves(decision, anchors)
    used = set(re.findall(r"#[0-9a-f]{6}\b", svg.decode()))
    assert used <= set(COLOURS.values())
    picture = Image.open(io.BytesIO(curves(decision, anchors, form="png")))
    assert picture.width > picture.height


def test_curves_of_two_panels_share_no_ids(html: bytes) -> None:
    ids = re.findall(r'\bid="([^"]+)"', html.decode())
    assert len(ids) == len(set(ids)) > 0
    assert set(re.findall(r"url\(#([^)]+)\)", html.decode())) <= set(ids)


def _row(concept: str, status: str, score: float | None = None, **more: object) -> BatchRow:
    return BatchRow.model_validate({"concept": concept, "status": status, "reason": "why", "score": score, **more})


def test_batch_page_is_ordered_worst_first() -> None:
    rows = [
        _row("good", "published", 0.9),
        _row("weak", "published", 0.3),
        _row("turned-down", "rejected", 0.5),
        _row("known", "skipped"),
        _row("waiting", "awaiting-approval", 0.6),
        _row("broken", "failed"),
    ]
    reader = Reader(batch_page(rows, {}.__getitem__))
    order = [row["text"].split()[0] for row in reader.rows[1:]]
    assert order == ["broken", "turned-down", "weak", "waiting", "good", "known"]
    assert "6 concepts, worst first" in reader.text
    assert "2 published" in reader.text


def test_page_tells_the_class_word_and_the_gain_over_a_neutral_word(run: JudgedRun, html: bytes) -> None:
    assert "nouns" not in html.decode() and "names nothing in particular" not in html.decode()
    naming = Naming(likeness=0.12, closer=0.4, nearest={"crown": 0.3, "ring": 0.2})
    anchors = run.manifest.anchors.model_copy(update={"naming": naming})
    over = {"neutral_word": "object", "neutral_gain": Interval(value=0.3, low=0.2, high=0.4)}
    told = run.manifest.model_copy(
        update={"anchors": anchors, "report": run.manifest.report.model_copy(update=over), "device": "cpu"}
    )
    reader = Reader(page(told, run.load))
    assert "40% of the everyday nouns" in reader.text and "crown (0.300), ring (0.200)" in reader.text
    assert "CLIP-I over “object” +0.300 [+0.200, +0.400]" in reader.lines()
    assert "The class word may be wrong" in reader.text and "“crown” and “ring” most of all" in reader.text


def test_page_speaks_to_people_first_and_of_statistics_below(html: bytes) -> None:
    text = Reader(html).text
    assert text.index("worth using") < text.index("What went in") < text.index("The decision, in numbers")


def test_batch_page_shows_links_gains_and_pictures(run: JudgedRun) -> None:
    row = _row(
        "cat-toy", "published", 0.684, step=80, page="cat-toy/page.html", strip=run.manifest.report.chosen.strip,
        gain=Interval(value=0.21, low=-0.01, high=0.25),
    )  # fmt: skip
    failed = _row("<script>", "failed", page='" onclick="x')
    reader = Reader(batch_page([row, failed], run.load, title="Night of 5 <March>"))
    assert "cat-toy/page.html" in reader.links
    assert "+0.210 [−0.010, +0.250]" in reader.text
    assert [picture["alt"] for picture in reader.pictures] == ["cat-toy at step 80, one picture per prompt"]
    beside = row.model_copy(update={"picture": run.manifest.prepared.squares[0]})
    alts = [picture["alt"] for picture in Reader(batch_page([beside], run.load)).pictures]
    assert alts == ["A training picture of cat-toy", "cat-toy at step 80, one picture per prompt"]
    assert "Night of 5 <March>" in reader.text
    assert "script" not in reader.tags


def test_batch_page_of_toys_says_so(run: JudgedRun) -> None:
    row = BatchRow(concept="cat", status="published", reason="", toy=True)
    assert "This is a toy" in Reader(batch_page([row], run.load)).text
    assert "This is a toy" not in Reader(batch_page([row.model_copy(update={"toy": False})], run.load)).text


def test_an_empty_batch_has_a_page() -> None:
    assert "0 concepts" in Reader(batch_page([], {}.__getitem__)).text


def test_page_tells_a_published_protocol_s_figures_and_what_does_not_compare(run: JudgedRun, html: bytes) -> None:
    assert "protocol</h2>" not in html.decode()
    told = Reader(page(by_protocol(run.manifest, "dreambench", seeds=2), run.load))
    assert "DINO 0.400 0.569" in told.lines() and "CLIP-I 0.250 0.780" in told.lines()
    for words in (
        "By the DreamBench protocol",
        "arXiv 2208.12242",
        "no Stable Diffusion",
        "Changed: seeds 2 instead of 4",
    ):
        assert words in told.text
    paper = Reader(page(by_protocol(run.manifest, "textual-inversion-paper"), run.load))
    assert "By the textual-inversion paper's protocol" in paper.text and "Published:" not in paper.text


def test_batch_page_averages_a_published_protocol_beside_its_published_figures() -> None:
    rows = [
        BatchRow(
            concept=name, status="published", reason="", protocol="dreambench", figures={"CLIP-I": value},
            caveats=("Judged by another CLIP.",),
        )
        for name, value in (("one", 0.5), ("two", 0.7))
    ]  # fmt: skip
    told = Reader(batch_page([*rows, BatchRow(concept="three", status="failed", reason="broken")], lambda _: b""))
    assert "Means over 2 of 3 concepts" in told.text and told.text.count("Judged by another CLIP.") == 1
    assert any(line.startswith("mean 0.600 ± 1.271") for line in told.lines("chosen"))
    assert any(line.endswith("0.780") and "published" in line for line in told.lines())
    assert {"one 0.500", "two 0.700"} <= set(told.lines())
