"""Approval in Prefect: a run shows what awaits it and waits for the answer in its form. While it waits it is suspended:
no worker, no place in a queue and no card is held.

`train-concept` and `train-pack` start such a run for each word that awaits approval. What the answer needs judged,
another step or a champion that came meanwhile, is a run of `publish-approved` on a worker with a card.
"""

from itertools import count
from typing import Annotated, Literal

from prefect import flow, runtime
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from prefect.states import Cancelled, Completed, State
from pydantic import Field

from flows.options import OfBase, Run, field
from flows.train_concept import NAMES
from tasks import artifacts
from tasks.asking import CancelledError, started
from tasks.line import publish_approved as publish
from tasks.line import tell_tracking
from ti_core import progress
from ti_core.approval import check_step, told
from ti_core.errors import InputError, NotFoundError
from ti_core.publishing import approving
from ti_core.publishing.catalogue import manifest_at
from ti_core.publishing.transaction import RivalError
from ti_core.records import Manifest, Outcome
from ti_core.reporting.words import in_words
from ti_core.settings import load_settings
from ti_core.store import open_store

Concept = Annotated[str, field("Concept", "Name of the concept.")]


class Answer(RunInput):
    """The form of a run that waits. What is required has no default: nobody approves by an empty form."""

    decision: Literal["approve", "take another step", "decline"] = Field(
        title="Decision", description="Whether readers get the word, with the chosen step or with another."
    )
    who: str = Field(title="Who decides", description="A name; it is kept with the decision.", min_length=1)
    step: int = Field(0, title="Step", description="Of another step: which. It is judged before it is published.")
    reason: str = Field("", title="Reason", description="Why; asked for where it is declined.")


@flow(name="approve", flow_run_name="{concept}", persist_result=False)
def approve(
    concept: Concept,
    base_model: OfBase = "",
    run: Run = "",
    hours: Annotated[float, field("Hours", "How long an answer is waited for.")] = 72.0,
) -> State[Outcome]:
    """Show what awaits approval, wait for a person's answer, and do as it says.

    The run ends as Completed, Declined, Handed on (`publish-approved` goes on with it) or Nothing to approve; as Failed
    where nobody answered in time: the word then still awaits approval, and a new run of this asks again.
    """
    settings = load_settings()
    store = open_store(settings)
    try:
        waiting = approving.find_awaiting(store, settings, concept, base_model, run)
    except NotFoundError as error:
        return Completed(name="Nothing to approve", message=str(error))
    manifest = manifest_at(store, waiting.manifest)
    page = approving.page_of(store, waiting)
    if runtime.flow_run.run_count == 1:
        artifacts.judged(manifest, store)
        artifacts.pictures_table([(concept, manifest.plan.images)])
        artifacts.page_link(waiting, page)
    answer = _answer(waiting, manifest, page, hours)
    with progress.listening(artifacts.Artifacts()):
        if answer.decision == "decline":
            ended = told(approving.decline(store, waiting, answer.who, answer.reason), store)
        elif answer.step not in {0, manifest.decision.step}:
            return _handed_on(waiting, answer, f"Step {answer.step} is judged first")
        else:
            try:
                ended = told(approving.approve(store, manifest, waiting.run_id, answer.who, answer.reason), store)
            except RivalError as error:
                version = error.champion.version
                return _handed_on(waiting, answer, f"It meets version {version} first, which came meanwhile")
    tell_tracking()
    return Completed(name=NAMES.get(ended.status, "Completed"), message=ended.reason, data=ended)


@flow(name="publish-approved", flow_run_name="{concept}", persist_result=False)
def publish_approved(
    concept: Concept,
    who: Annotated[str, field("Who decides", "A name; it is kept with the decision.")],
    base_model: OfBase = "",
    run: Run = "",
    step: Annotated[int, field("Step", "Another step than the chosen one; 0: the chosen one.")] = 0,
    reason: Annotated[str, field("Reason", "Why it is approved.")] = "",
) -> State[Outcome]:
    """Judge what an approval needs judged, and publish. `approve` starts it; nobody else needs to."""
    settings = load_settings()
    try:
        waiting = approving.find_awaiting(open_store(settings), settings, concept, base_model, run)
    except NotFoundError as error:  # an earlier attempt at this run has published it
        return Completed(name="Nothing to approve", message=str(error))
    try:
        ended = publish(waiting, step, who, reason)
    except CancelledError as error:
        return Cancelled(message=str(error))
    tell_tracking()
    return Completed(name=NAMES.get(ended.status, "Completed"), message=ended.reason, data=ended)


def _answer(waiting: Outcome, manifest: Manifest, page: str, hours: float) -> Answer:
    """What a person says; asked again as long as it cannot be done."""
    words, shown = in_words(manifest), artifacts.verbatim
    findings = "".join(
        f"\n- {shown(f'{one.severity}: {one.file} {one.text}')}" for one in manifest.plan.images.findings
    )
    text = (
        f"**{shown(manifest.plan.concept.placeholder)}** for {shown(waiting.base)}, step {waiting.step}, score "
        f"{waiting.score:.3f} (run {waiting.judge_key[:12]}).\n\n{shown(waiting.reason)}\n\n"
        f"{shown(f'{words.standing} {words.learned} {words.lacks}')}\n\n{shown(manifest.decision.explanation)}\n\n"
        f"Pictures step by step and scores are among the artifacts of this run; the page is {shown(page)}.\n{findings}"
    )
    wrong = ""
    for number in count(1):
        form = Answer.with_initial_data(description=f"{wrong}{text}")
        answer = suspend_flow_run(wait_for_input=form, timeout=int(hours * 3600), key=f"answer-{number}")
        if not (wrong := _wrong(answer, manifest)):
            return answer
    raise AssertionError("It is asked for ever.")


def _wrong(answer: Answer, manifest: Manifest) -> str:
    """Why an answer cannot be done, as the next form's first words; "" where it can."""
    if answer.decision == "decline":
        return "" if answer.reason else "**A reason is asked for where it is declined.**\n\n"
    if (answer.decision == "approve") != (answer.step in {0, manifest.decision.step}):
        return "**Another step needs its number, and to approve takes none.**\n\n"
    try:
        check_step(manifest, answer.step)
    except InputError as error:
        return f"**{artifacts.verbatim(str(error))}**\n\n"
    return ""


def _handed_on(waiting: Outcome, answer: Answer, why: str) -> State[Outcome]:
    """Let a worker with a card do it. Raises NotFoundError where the server does not have the deployment."""
    started(
        "publish-approved/publish-approved",
        parameters={
            "concept": waiting.concept, "base_model": waiting.base, "run": waiting.judge_key, "step": answer.step,
            "who": answer.who, "reason": answer.reason,
        },
        flow_run_name=waiting.concept,
        idempotency_key=f"publish-approved-{runtime.flow_run.id}",
    )  # fmt: skip
    message = f"{why}: a run of publish-approved on a worker with a card does it, and publishes."
    return Completed(name="Handed on", message=message, data=waiting)
