"""A judged run made up from nothing, for tests of what people look at: a manifest and the blobs it names."""

import hashlib
import io
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from PIL import Image

from ti_core import keys
from ti_core.config import ConceptSpec, EvaluationConfig, SelectionRule, TrainingConfig
from ti_core.records import (
    Anchors,
    BaseModelInfo,
    Candidate,
    Cells,
    Checkpoint,
    Decision,
    Finding,
    ImageSet,
    Interval,
    JudgeInfo,
    Manifest,
    Picture,
    Plan,
    PreparedSet,
    PromptSet,
    Protocol,
    PublishedFile,
    Report,
    Scale,
    Scores,
    Split,
)

PLAIN = ("a photo of a {}", "a rendition of a {}", "a close-up photo of a {}", "a picture of the {}",
         "a photo of the {}", "a rendering of a {}")  # fmt: skip
EDIT = ("a {} on a blue background", "a {} on a red background", "a {} on a green background",
        "a small {} on a yellow background", "a {} on a black background",
        "a photo of a {} on a pink background")  # fmt: skip
STEPS = tuple(range(20, 180, 20))


class JudgedRun:
    """`manifest` and `load`, which brings its blobs. Tiles are told apart by colour (`tile_colour`)."""

    def __init__(
        self,
        *,
        name: str = "cat-toy",
        class_word: str = "toy",
        steps: Sequence[int] = STEPS,
        chosen: int = 80,
        looks_bad_from: int | None = 140,
        accepted: bool = True,
        plain: tuple[str, ...] = PLAIN,
        edit: tuple[str, ...] = EDIT,
        warnings: tuple[str, ...] = (),
        side: int = 24,
    ) -> None:
        self.blobs: dict[str, bytes] = {}
        self.side = side
        concept = ConceptSpec(name=name, pictures=f"pictures/{name}", class_word=class_word)
        base = BaseModelInfo(
            name="miniature", slug="miniature", folder="mini-sd", kind="miniature", digest="b" * 64, resolution=64
        )
        judge = JudgeInfo(name="mini-clip", location="local-dir:mini-clip", digest="c" * 64)
        training = TrainingConfig().resolved("miniature", 64)
        evaluation = EvaluationConfig().resolved("miniature")
        pictures = [self.blob(self._noise((200, 60 + 40 * n, 40), 160)) for n in range(4)]
        images = ImageSet(
            pictures=tuple(
                Picture(name=f"{n:02}.png", sha256=sha, width=160, height=160) for n, sha in enumerate(pictures)
            ),
            findings=tuple(Finding(severity="warning", kind="small", file="00.png", text=text) for text in warnings),
        )
        select = PromptSet(plain=plain, edit=edit, seeds=(11, 12, 13, 14))
        told = PromptSet(plain=("a good photo of a {}",), edit=("a {} on a purple background",), seeds=(21, 22))
        protocol = Protocol(
            base_digest=base.digest, clip=judge.name, clip_digest=judge.digest,
            references=tuple(sorted(pictures)), preprocessing=keys.preprocess_key(64, "auto"), class_word=class_word,
            sampler_steps=evaluation.sampler_steps, guidance=evaluation.guidance, resolution=64, select=select,
            report=told, version=keys.JUDGING_VERSION,
        )  # fmt: skip
        protocol_digest, rule = keys.protocol_digest(protocol), SelectionRule()
        train_key = keys.train_key(concept, images, training, base.digest)
        plan = Plan(
            concept=concept, base=base, judge=judge, images=images, training=training, evaluation=evaluation, rule=rule,
            protocol=protocol, protocol_digest=protocol_digest, train_key=train_key,
            judge_key=keys.judge_key(train_key, protocol_digest, rule),
        )  # fmt: skip
        self.manifest = Manifest(
            plan=plan,
            prepared=PreparedSet(key="k" * 32, resolution=64, squares=tuple(pictures), latents="l"),
            checkpoints=tuple(
                Checkpoint(step=step, vectors="v" * 64, norm=0.4 + step / 100, loss=0.06) for step in steps
            ),
            anchors=Anchors(class_word=self._scores(0, "select", select), real=0.81, real_text=0.19),
            scores=tuple(self._scores(step, "select", select) for step in steps),
            decision=self._decision(rule, steps, chosen, looks_bad_from, accepted),
            report=Report(
                anchors=Anchors(class_word=self._scores(0, "report", told), real=0.8, real_text=0.2),
                chosen=self._scores(chosen, "report", told),
                scaled_i=0.61, scaled_t=0.78, score=0.684, gain=Interval(value=0.21, low=0.16, high=0.25),
                verdict="accepted" if accepted else "rejected",
                reason="It is worth using." if accepted else "It is no better.",
            ),
            files=(
                PublishedFile(layout="diffusers", filename=f"{name}.safetensors", sha256="d" * 64, size=612),
                PublishedFile(layout="a1111", filename=f"{name}.a1111.safetensors", sha256="e" * 64, size=640),
            ),
            page="",
            created=datetime(2026, 3, 5, 4, 30, tzinfo=UTC),
        )  # fmt: skip

    def load(self, sha256: str) -> bytes:
        return self.blobs[sha256]

    @staticmethod
    def tile_colour(step: int, column: int) -> tuple[int, int, int]:
        """Mean colour of the tile of one step and prompt."""
        return 40 + step, 30 + 15 * column, 120

    def _scores(self, step: int, split: Split, prompts: PromptSet) -> Scores:
        return Scores(
            step=step,
            split=split,
            protocol="p" * 32,
            clip_i=_cells(prompts.plain, prompts.seeds, _clip_i(step)),
            clip_t=_cells(prompts.edit, prompts.seeds, _clip_t(step)),
            strip=self.strip(step, len(prompts.plain + prompts.edit)),
        )

    def strip(self, step: int, count: int) -> str:
        """Blob of a strip of `count` tiles."""
        strip = Image.new("RGB", (count * self.side, self.side))
        for column in range(count):
            strip.paste(self._noise(self.tile_colour(step, column), self.side), (column * self.side, 0))
        return self.blob(strip)

    def _decision(
        self, rule: SelectionRule, steps: Sequence[int], chosen: int, looks_bad_from: int | None, accepted: bool
    ) -> Decision:
        return Decision(
            rule=rule, accepted=accepted, step=chosen, best_step=chosen, looks_bad_from=looks_bad_from,
            gain=Interval(value=_clip_i(chosen) - 0.45, low=0.17, high=0.28),
            scale=Scale(
                image_zero=0.45, image_one=0.81, text_zero=0.19, text_one=0.34, image_usable=True, text_usable=True
            ),
            candidates=tuple(
                Candidate(
                    step=step, scaled_i=0.5, scaled_t=0.7, score=0.4 if step != chosen else 0.7, behind=0.02,
                    tied=step == chosen,
                    clip_i=Interval(value=_clip_i(step), low=_clip_i(step) - 0.04, high=_clip_i(step) + 0.04),
                    clip_t=Interval(value=_clip_t(step), low=_clip_t(step) - 0.02, high=_clip_t(step) + 0.02),
                )
                for step in steps
            ),
            explanation=f"Step {chosen} of {len(steps)} judged was chosen: nothing earlier is as good.",
        )  # fmt: skip

    def _noise(self, colour: tuple[int, int, int], side: int) -> Image.Image:
        noise = np.random.default_rng(sum(colour)).integers(-25, 26, (side, side, 3))
        return Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8))

    def blob(self, picture: Image.Image) -> str:
        """Add a picture to the blobs; returns its digest."""
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
        self.blobs[sha256] = buffer.getvalue()
        return sha256


def _clip_i(step: int) -> float:
    return 0.45 + 0.30 * (1 - float(np.exp(-step / 50)))


def _clip_t(step: int) -> float:
    return 0.34 - 0.09 * (step / 160) ** 2


def _cells(prompts: tuple[str, ...], seeds: tuple[int, ...], value: float) -> Cells:
    return Cells(prompts=prompts, seeds=seeds, values=tuple(tuple(value for _ in seeds) for _ in prompts))


def by_protocol(manifest: Manifest, name: str, **changes: object) -> Manifest:
    """The run as if it had been judged by protocol `name`, with a second opinion; `changes` are of its evaluation.

    On the reporting set its edit prompts have CLIP-I 0.25, CLIP-T of the mean 0.3 and DINO 0.4, its plain ones DINO
    0.9.
    """
    evaluation = EvaluationConfig.model_validate({"protocol": name} | changes).resolved("miniature")
    told = manifest.report.chosen
    p, e, s = len(told.clip_i.prompts), len(told.clip_t.prompts), len(told.clip_i.seeds)
    edit = Cells(prompts=told.clip_t.prompts, seeds=told.clip_t.seeds, values=((0.25,) * s,) * e)
    dino = Cells(
        prompts=(*told.clip_i.prompts, *told.clip_t.prompts), seeds=told.clip_t.seeds,
        values=((0.9,) * s,) * p + ((0.4,) * s,) * e,
    )  # fmt: skip
    chosen = told.model_copy(update={"clip_i_edit": edit, "dino": dino, "clip_t_of_mean": (0.3,) * e})
    return manifest.model_copy(
        update={
            "plan": manifest.plan.model_copy(update={"evaluation": evaluation}),
            "report": manifest.report.model_copy(update={"chosen": chosen}),
        }
    )
