"""Pictures before a card is asked for: what `ti check` says of them, and how long a word will take. Nothing is trained.

Its queue is one without cards, so it is done in the time that reading the pictures takes, whatever is in training.
"""

from dataclasses import replace
from typing import Annotated

from prefect import flow
from prefect.states import Completed, Failed, State

from flows.options import AS_IT_IS, TO_CHECK, AskJudge, BaseModel, field, of_concept, opened
from flows.train_concept import Training
from tasks import artifacts
from tasks.asking import check_begun
from tasks.line import as_task
from ti_core.checking import check, meant, times
from ti_core.config import TrainingConfig
from ti_core.errors import InputError
from ti_core.reporting.checking import Checked
from ti_core.settings import load_settings

SHEETS = 20
"""So many concepts of a batch are shown; of all of them the table tells."""


@flow(name="check-pictures", flow_run_name="{pictures}", persist_result=False)
def check_pictures(
    pictures: Annotated[str, field("Pictures", TO_CHECK)],
    base_model: BaseModel = "",
    training: Training = AS_IT_IS,
    judge: AskJudge = False,
    show_pictures: of_concept("show_pictures") = True,
) -> State[list[Checked]]:
    """Look at pictures as training would: what is left out, what will hurt the word, how they are cut, and how long a
    word takes by each preset. The run ends as Usable, or as Not usable where a concept has no usable picture."""
    check_begun()
    settings = load_settings()
    base = meant(base_model, settings)

    def look() -> list[Checked]:
        found = list[Checked]()
        for one in check(pictures, opened(training, TrainingConfig), base, settings, showing=True, judge=judge):
            if show_pictures and one.shown and len(found) < SHEETS:
                artifacts.checked_sheet(one)
            found.append(replace(one, made={}))  # the pictures of all concepts together may be large
        return found

    try:
        found: list[Checked] = as_task(bool, "check", "check the pictures", look)
    except InputError as error:
        return Failed(name="Not usable", message=str(error), data=error)
    said = times(base, settings)
    artifacts.checked(found, said)
    wrong = [one for one in found if one.error]
    count = sum(len(one.images.pictures) for one in found)
    message = " ".join([f"{count} usable pictures.", *(f"{one.name}: {one.error}" for one in wrong[:5]), *said])
    if wrong:
        name = f"Not usable: {len(wrong)} of {len(found)}" if len(found) > 1 else "Not usable"
        return Failed(name=name, message=message, data=found)
    return Completed(name="Usable", message=message, data=found)
