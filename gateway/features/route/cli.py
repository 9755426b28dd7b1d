"""`gateway route`: learn, show and verify which requests may go to the cheaper target."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.options import AsJson, ConfigOptions, example, grouped, note, show
from gateway.cli.options import Config as ConfigPath

if TYPE_CHECKING:
    from gateway.config.config import Config
    from gateway.core.learned_route import LearnedRoute
    from gateway.features.route.model import RouteTerms
    from gateway.features.route.verification import Verification
    from gateway.store.query import Reading

verbs = typer.Typer()
route = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
verbs.add_typer(
    route,
    name="route",
    help="Learn, show and verify which requests may go to the cheaper model.",
    epilog=example("gateway route learn swap --write"),
)
Arm = Annotated[str | None, typer.Option(help="The cheaper target (default: the only candidate).")]
Write = Annotated[bool, typer.Option("--write", help="Write gateway.route.NAME.json next to gateway.yaml.")]
RouteArgument = Annotated[str, typer.Argument(metavar="ROUTE", help="Name of the route.")]


@route.callback()
def _group() -> None:
    """Learn, show and verify routes."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The route that is asked for."""

    name: Annotated[str | None, typer.Option(help="Name of the route (default: EXPERIMENT-route).")] = None
    kind: Annotated[str, typer.Option(help="tree: at most 8 groups. boosted: needs the extra learn.")] = "tree"
    cascade: Annotated[
        bool,
        typer.Option("--cascade", help="Ask the cheaper target first: its answer decides as well. Plain calls only."),
    ] = False
    arm: Arm = None
    margin: Annotated[
        float | None, typer.Option(help="Largest loss over all traffic (default: the experiment's margin).")
    ] = None
    alpha: Annotated[float, typer.Option(help="Probability that the chosen route loses more than that.")] = 0.05

    def terms(self, connection: Reading, config: Config, experiment: str) -> RouteTerms:
        from gateway.features.route.experiment import terms_of, with_choices

        terms = with_choices(terms_of(connection, config, experiment, self.arm), self.name, self.margin, self.alpha)
        return replace(terms, kind="tree" if self.kind == "tree" else "boosted", cascade=self.cascade)


@route.command("learn", epilog=example("gateway route learn swap --name small-where-safe --write"))
@grouped
def learn(
    experiment: Annotated[str, typer.Argument(help="Experiment whose pairs it is learned from.")],
    wanted: _Wanted,
    options: ConfigOptions,
    write: Write = False,
    as_json: AsJson = False,
) -> None:
    """Learn which share of the traffic may go to the cheaper target at a loss of at most the margin.

    Half of the pairs find groups of requests, the newer ones choose the largest share whose loss is shown to be within
    the margin. Exit code 1: no share can be moved.
    """
    from gateway.core.sanitize import to_json
    from gateway.features.route import report as reports
    from gateway.features.route.experiment import pairs_of
    from gateway.features.route.learning import learn as learn_route
    from gateway.store.query import reading

    if wanted.kind not in ("tree", "boosted"):
        raise typer.BadParameter(f'no kind "{wanted.kind}"; expected tree or boosted', param_hint="--kind")
    if wanted.name is not None:
        _valid_name(wanted.name)
    of = options.load()
    with reading(of.store) as connection:
        terms = wanted.terms(connection, of.config, experiment)
        choice = learn_route(terms, pairs_of(connection, terms))
    show(to_json(reports.choice_dict(terms, choice)) if as_json else reports.choice_text(terms, choice))
    if choice.route is None:
        raise typer.Exit(1)
    if write:
        _write(of.path, choice.route, terms)
    else:
        note("--write freezes it in a file next to gateway.yaml")


def _write(config: Path, learned: LearnedRoute, terms: RouteTerms) -> None:
    """Freezes the route in its file, which no later one replaces."""
    from gateway.config.routes import route_path, write_route
    from gateway.features.route.report import yaml_lines

    path = route_path(config, learned.name)
    write_route(path, learned)
    note(f"{path.name} holds it, digest {learned.digest}; the experiment that proves it, for {config.name}:")
    note(yaml_lines(learned, str(terms.plan.primary), terms.margin))


@route.command("except", epilog=example("gateway route except swap --write"))
@grouped
def except_segments(
    experiment: Annotated[str, typer.Argument(help="Experiment whose verdict is `ship except`.")],
    options: ConfigOptions,
    name: Annotated[str | None, typer.Option(help="Name of the route (default: EXPERIMENT-except).")] = None,
    arm: Arm = None,
    write: Write = False,
    as_json: AsJson = False,
) -> None:
    """Make the route of a verdict `ship except`: its segments stay with the control, and the candidate gets the rest.

    It serves without a ramp. Refused while the verdict is another one.
    """
    from gateway.config.routes import route_path, write_route
    from gateway.core.sanitize import to_json
    from gateway.features.route.by_segment import segment_route
    from gateway.features.route.report import route_text
    from gateway.store.query import reading

    of, named = options.load(), _valid_name(name or f"{experiment}-except")
    with reading(of.store) as connection:
        made = segment_route(connection, of.config, experiment, arm, named)
    show(to_json({**made.fields(), "digest": made.digest}) if as_json else route_text(made))
    if not write:
        note("--write freezes it in a file next to gateway.yaml")
        return
    path = route_path(of.path, named)
    write_route(path, made)
    note(f"{path.name} holds it; to serve it, make it the only target of {made.alias} in {of.path.name}, and remove")
    note(f"{experiment} there:\n  {made.alias}:\n    targets: [{{route: {made.name}}}]")


def _valid_name(name: str) -> str:
    """Raises CannotRun."""
    from gateway.core.errors import CannotRun
    from gateway.core.learned_route import NAMES

    if not NAMES.fullmatch(name):
        raise CannotRun(f'--name: "{name}": expected letters, digits, `_`, `-` and `.`, up to 64')
    return name


@route.command("show", epilog=example("gateway route show small-where-safe"))
def show_route(name: RouteArgument, as_json: AsJson = False, config: ConfigPath = Path("gateway.yaml")) -> None:
    """Show a frozen route: its groups of requests, which are moved, and the curve that it was chosen from."""
    from gateway.core.sanitize import to_json
    from gateway.features.route.report import route_text

    learned = _read(config, name)
    show(to_json({**learned.fields(), "digest": learned.digest}) if as_json else route_text(learned))


@route.command("verify", epilog=example("gateway route verify small-where-safe"))
@grouped
def verify(
    name: RouteArgument,
    options: ConfigOptions,
    experiment: Annotated[
        str | None, typer.Option(help="Experiment of the same two targets (default: the one it was learned from).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify a route on pairs that it was not learned from. Exit code 1: it is shown to lose more than its margin."""
    from gateway.core.sanitize import to_json
    from gateway.features.route.report import verification_dict, verification_text

    learned = _read(options.config, name)
    found = _verified(options, learned, experiment or _learned_from(learned))
    if found is None:
        note(f"{name}: its digest is right, and there is no pair that it was not learned from")
        return
    margin = float(learned.evidence["margin"])
    show(to_json(verification_dict(found)) if as_json else verification_text(learned, found, margin))
    if found.state == "loses too much":
        raise typer.Exit(1)


def _read(config: Path, name: str) -> LearnedRoute:
    from gateway.config.routes import read_route

    return read_route(config, name)


def _learned_from(learned: LearnedRoute) -> str:
    """The experiment that a route was learned from. Raises CannotRun for a cascade that was written by hand."""
    from gateway.core.errors import CannotRun

    if "experiment" not in learned.evidence:
        raise CannotRun(
            f"{learned.name} was not learned from an experiment; name one that compares "
            f"{learned.control.target} with {learned.moved.target}: --experiment NAME"
        )
    return str(learned.evidence["experiment"])


def _verified(options: ConfigOptions, learned: LearnedRoute, experiment: str) -> Verification | None:
    from gateway.core.errors import CannotRun
    from gateway.features.route import verification
    from gateway.features.route.experiment import pairs_of, terms_of
    from gateway.store.query import reading

    if learned.segments is not None:
        raise CannotRun(
            f"{learned.name} keeps {', '.join(learned.kept)} by the verdict of {learned.evidence['experiment']}; "
            f"gateway report {learned.evidence['experiment']} shows both on newer pairs, and its watch while it serves"
        )
    deployment, of = options.load(), learned.evidence
    with reading(deployment.store) as connection:
        arm = str(of["candidate"]) if experiment == of.get("experiment") else None
        terms = replace(terms_of(connection, deployment.config, experiment, arm), cascade=learned.cascade)
        if (terms.control, terms.moved) != (learned.control, learned.moved):
            raise CannotRun(
                f"{experiment} compares {terms.control.target} and {terms.moved.target}, and {learned.name} chooses "
                f"between {learned.control.target} and {learned.moved.target}"
            )
        after = int(of["last_place"]) if terms.plan_hash == of.get("plan") else 0
        pairs = pairs_of(connection, terms, after)
    return verification.verify(learned, pairs, float(of["margin"]), float(of["alpha"]))
