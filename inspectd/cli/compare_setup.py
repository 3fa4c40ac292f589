"""What ``inspectd compare`` does before it has figures to show: checks, split, contest, timing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inspectd.cli.calibrate import backbone_named, checked, use_threads
from inspectd.cli.output import Report, needs_calibration, note, stages
from inspectd.core.errors import ConfigError, InspectdError

if TYPE_CHECKING:
    from calibration.comparison.contenders import Contender, Failure, Outcome
    from calibration.comparison.contest import Terms
    from calibration.comparison.record import Comparison
    from calibration.scorers import Scorer
    from inspectd.core.store import ProductStore

SCORERS = ("protoad", "prn", "mpfnet")
"""What is compared where nothing else is asked for."""
Run = tuple["list[Outcome]", "list[Failure]"]


def listed(text: str) -> list[str]:
    """The names in a list with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def methods_of(scorers: str | None, backbones: str) -> list[str]:
    """As asked for; else all, or with several backbones only the first."""
    if scorers is not None:
        return listed(scorers)
    return list(SCORERS if len(listed(backbones)) < 2 else SCORERS[:1])


def prepared(
    given: dict[str, Any], methods: list[str], specs: list[str], scratch: Path, report: Report
) -> tuple[list[Contender], Terms]:
    """Checks what is cheap to check, loads the libraries and backbones, and splits the pictures."""
    with needs_calibration():
        from calibration.dataset import find_good, find_labelled

        images = given["--images"]
        find_good(images)
        labelled = _labelled(images, given["--labelled"])
        samples = find_labelled(labelled)
        report("loading libraries", 0, 1)
        from calibration.comparison.contenders import check_names, contenders
        from calibration.comparison.contest import Terms
        from calibration.comparison.halves import link_samples, split_halves
        from calibration.scorers import scorer_named
        from calibration.training import device_named

        check_names(methods, specs)
        made = [scorer_named(name) for name in methods]
        _require_trained(made, given["--budget"])
        halves = split_halves(samples)
        device = device_named(given["--device"])
        use_threads(given["--threads"])
    report("loading libraries", 1, 1)
    rivals = contenders(made, [(name, backbone_named(name, report)) for name in specs])
    link_samples(halves.holdout, scratch / "holdout")
    crop, budget = given["--crop"], given["--budget"]
    terms = Terms(
        product=given["--product"],
        images=images,
        labelled=labelled,
        halves=halves,
        holdout=scratch / "holdout",
        resize=(given["--input-size"], given["--input-size"]),
        crop=None if crop is None else (crop, crop),
        seed=given["--seed"],
        runtime=given["--runtime"],
        threads=given["--threads"],
        budget_s=None if budget is None else 60 * budget,
        device=device,
    )
    return rivals, terms


def contested(
    rivals: Sequence[Contender], terms: Terms, store: ProductStore, check: Callable[[], None]
) -> Run:
    """Makes and judges one after the other; each has its own lines of progress.

    Raises:
        InspectdError: not one could be made.
    """
    from calibration.comparison.contenders import Failure
    from calibration.comparison.contest import contest

    made: list[Outcome] = []
    failed: list[Failure] = []
    for rival in rivals:
        with stages() as progress:
            told = checked(_prefixed(progress, rival.name), check)
            result = contest(rival, terms, store, told)
        if isinstance(result, Failure):
            failed.append(result)
            note(f"{rival.name} failed: {result.reason}", "red")
        else:
            made.append(result)
    if not made:
        raise InspectdError("; ".join(f"{one.name}: {one.reason}" for one in failed))
    return made, failed


def compared(
    made: Sequence[Outcome],
    failed: Sequence[Failure],
    terms: Terms,
    command: str,
    report: Report,
) -> Comparison:
    """Times those that were made, on this machine, and gathers what the page says."""
    from calibration.comparison.record import compared as gathered
    from inspectd.bench.machine import this_machine

    machine = this_machine()
    facts = {
        "machine": machine.title,
        "threads": str(terms.threads) if terms.threads else "all cores",
        "system": machine.system,
    }
    return gathered(made, failed, terms, command, facts, report)


def scratch_store(folder: Path, product: str, revisions: list[str]) -> ProductStore:
    """For the contenders' revisions: it counts on from the product's own."""
    from calibration.comparison.contest import counting_on

    return counting_on(folder / "products", product, revisions[-1] if revisions else None)


def _labelled(images: Path, given: Path | None) -> Path:
    if given is None and not (images / "test" / "good").is_dir():
        raise ConfigError(
            f"{images} has no test/ with labelled pictures; pass a folder of them with --labelled"
        )
    return given or images


def _require_trained(scorers: Sequence[Scorer], budget: float | None) -> None:
    if budget is not None and not any(scorer.is_trained for scorer in scorers):
        raise ConfigError(
            "--budget is for training, and none of these scorers is trained; leave it out"
        )


def _prefixed(report: Report, name: str) -> Report:
    return lambda stage, done, total: report(f"{name}: {stage}", done, total)
