"""The learned routes that a config names: a file for each next to gateway.yaml, read, checked and watched with it.

`gateway route learn --write` makes gateway.route.NAME.json for gateway.yaml. A target `{route: NAME}` refers to it, or
to a cascade of the section `cascades`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gateway.config.cascades import CascadeConfig, InvalidRule, cascade_route
from gateway.config.scorers import with_questions_apart
from gateway.config.upstreams import TargetRef
from gateway.config.yaml_text import read_config_text, yaml_sections
from gateway.core.did_you_mean import did_you_mean
from gateway.core.errors import CannotRun, ConfigError
from gateway.core.exchange import Target
from gateway.core.json_values import as_list, as_object
from gateway.core.learned_route import ROUTE, WATCHED, InvalidRoute, LearnedRoute, route_from_json
from gateway.core.plan import BUILT_IN_METRICS
from gateway.core.wildcards import is_pattern

_PART = ".route."


@dataclass(frozen=True, slots=True)
class RouteFiles:
    """The files of routes next to a config, as they were read."""

    config: Path
    texts: Mapping[str, bytes] = field(default_factory=dict)
    """Contents of the files, by the name of the route."""

    def path(self, name: str) -> Path:
        return route_path(self.config, name)


@dataclass(frozen=True, slots=True)
class ConfiguredRoute:
    """A route that the config names, with its two targets as the config would have them."""

    route: LearnedRoute
    control: TargetRef
    moved: TargetRef


def route_path(config: Path, name: str) -> Path:
    """gateway.route.NAME.json for gateway.yaml."""
    return config.with_name(f"{config.stem}{_PART}{name}.json")


def read_routes(config: Path) -> RouteFiles:
    """config: the path of gateway.yaml. Raises ConfigError."""
    texts: dict[str, bytes] = {}
    for path in sorted(config.parent.glob(f"{config.stem}{_PART}*.json")):
        try:
            texts[path.name.removeprefix(f"{config.stem}{_PART}").removesuffix(".json")] = path.read_bytes()
        except OSError as error:
            raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    return RouteFiles(config, texts)


@dataclass(slots=True)
class NamedRoutes:
    """The routes that the sections of a config name, and what is wrong with them."""

    files: RouteFiles
    routes: dict[str, ConfiguredRoute] = field(default_factory=dict)
    mistakes: list[str] = field(default_factory=list)
    routed: set[str] = field(default_factory=set)
    """Models whose target is a route."""
    written: set[str] = field(default_factory=set)
    """Names of the cascades that gateway.yaml holds itself."""

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(self.files.path(name) for name in self.routes if name not in self.written)

    @property
    def text(self) -> str:
        """Differs where a named route differs."""
        return "".join(f"{name} {each.route.digest}\n" for name, each in sorted(self.routes.items()))

    def filled(self, raw: dict[str, Any]) -> dict[str, Any]:
        """The sections with the digest of each route that they name, so that a plan always refers to the same route."""
        for name, cascade in as_object(raw.get("cascades")).items():
            self._write(str(name), cascade)
        models = {alias: self._model(str(alias), model) for alias, model in as_object(raw.get("models")).items()}
        experiments = {name: self._experiment(str(name), e) for name, e in as_object(raw.get("experiments")).items()}
        experiments = {**self._watches(raw), **experiments}
        parts = {"models": models, "experiments": experiments}
        filled = {**raw, **{key: part for key, part in parts.items() if part or isinstance(raw.get(key), dict)}}
        if self.routes and ROUTE in as_object(raw.get("upstreams")):
            self.mistakes.append(f'upstreams.{ROUTE}: "{ROUTE}" names learned routes in records; rename the upstream')
        return filled

    def _write(self, name: str, raw: Any) -> None:
        """Makes a route of a cascade that gateway.yaml holds."""
        self.written.add(name)
        if name in self.files.texts:
            self.mistakes.append(f"cascades.{name}: {self.files.path(name).name} is a route of this name; rename one")
        try:
            self.routes[name] = _configured(cascade_route(name, CascadeConfig.model_validate(raw)))
        except ValidationError:
            return  # the validation of the whole config reports it
        except (InvalidRule, InvalidRoute) as error:
            self.mistakes.append(f"cascades.{name}.{error}")

    def _model(self, alias: str, model: Any) -> Any:
        if not isinstance(model, dict):
            return model
        targets, at = as_list(model.get("targets")), f"models.{alias}"
        for i, target in enumerate(as_list(model.get("fallback"))):
            if _names_route(target):
                self.mistakes.append(f"{at}.fallback[{i}].route: a fallback is one target; name its upstream and model")
        if not any(map(_names_route, targets)):
            return model
        self.routed.add(alias)
        if len(targets) > 1:
            self.mistakes.append(f"{at}.targets: a route chooses among its own two targets; make it the only one")
        if is_pattern(alias):
            self.mistakes.append(f"{at}.targets: a route is learned on the calls of one name, and {alias} is a pattern")
        return {**model, "targets": [self._target(f"{at}.targets[{i}]", t, alias) for i, t in enumerate(targets)]}

    def _watches(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """The experiments that watch the routes of models: their served answers against the control's."""
        found: dict[str, Any] = {}
        for alias, model in as_object(raw.get("models")).items():
            targets = as_list(as_object(model).get("targets"))
            for i, target in enumerate(t for t in targets if _names_route(t)):
                known, share = self.routes.get(target["route"]), target.get("watch", WATCHED)
                if known is None or not share:
                    continue
                primary = str(known.route.evidence.get("primary"))
                if known.route.certificates and not primary:
                    continue
                if primary not in (*with_questions_apart(as_object(raw.get("scorers"))), *BUILT_IN_METRICS):
                    self.mistakes.append(
                        f'models.{alias}.targets[{i}].route: it is watched by the scorer "{primary}", by which it was '
                        "learned, and there is none; add it to `scorers`, or set `watch: 0`"
                    )
                    continue
                found[watch_name(known.route.name)] = _watch(alias, known.route, primary, share)
        return found

    def _experiment(self, name: str, experiment: Any) -> Any:
        if not isinstance(experiment, dict):
            return experiment
        at, alias = f"experiments.{name}", str(experiment.get("model"))
        if _names_route(experiment.get("control")):
            self.mistakes.append(
                f"{at}.control: a route cannot be the control, whose answers are one target's; name the route's control"
            )
        filled, arms = dict(experiment), as_object(experiment.get("candidates"))
        self._check_control(at, experiment.get("control"), alias)
        if _names_route(experiment.get("candidate")):
            filled["candidate"] = self._arm(f"{at}.candidate", experiment["candidate"], experiment, alias)
        if any(map(_names_route, arms.values())):
            filled["candidates"] = {
                arm: self._arm(f"{at}.candidates.{arm}", t, experiment, alias) if _names_route(t) else t
                for arm, t in arms.items()
            }
        return filled

    def _check_control(self, at: str, control: Any, alias: str) -> None:
        """Checks that an experiment on a route has one of the route's two targets as its control."""
        served = [each.route for each in self.routes.values() if each.route.alias == alias and alias in self.routed]
        for route in served:
            of = [str(target.target) for target in (route.control, route.moved)]
            given = as_object(control)
            if given and f"{given.get('upstream')}/{given.get('model')}" not in [name.partition("[")[0] for name in of]:
                self.mistakes.append(f"{at}.control: models.{alias} is served by {of[0]} and {of[1]}; name one of them")

    def _arm(self, at: str, target: dict[str, Any], experiment: dict[str, Any], alias: str) -> dict[str, Any]:
        if experiment.get("mode") == "likelihood":
            self.mistakes.append(f"{at}.route: `mode: likelihood` compares two models; use `mode: shadow` for a route")
        filled, known = self._target(at, target, alias), self.routes.get(target["route"])
        control = as_object(experiment.get("control"))
        if known is not None and control.get("upstream") is not None:
            own = known.route.control.section
            if any((control.get(key) or None) != (own.get(key) or None) for key in {*own, *control} - {"retires"}):
                self.mistakes.append(f"{at}.route: its control is {known.route.control.target}; make that the control")
        return filled

    def _target(self, at: str, target: dict[str, Any], alias: str) -> dict[str, Any]:
        if not _names_route(target):
            return target
        name = str(target["route"])
        if others := sorted(set(target) - {"route", "digest", "weight", "watch"}):
            self.mistakes.append(f"{at}.{others[0]}: a route has its own targets; give `route` alone")
        found = self._read(at, name, alias)
        if found is None:
            return target
        digest = found.route.digest
        if target.get("digest") not in (None, digest):
            self.mistakes.append(
                f"{at}.digest: the route in {self._where(name)} is {digest}, another one than was chosen here"
            )
        return {**target, "digest": digest}

    def _read(self, at: str, name: str, alias: str) -> ConfiguredRoute | None:
        if name not in self.routes:
            text, file = self.files.texts.get(name), self.files.path(name).name
            if name in self.written:
                return None  # what is wrong with it is reported where it is written
            if text is None:
                hint = did_you_mean(name, [*self.files.texts, *self.written]) or ""
                self.mistakes.append(
                    f'{at}.route: no route "{name}": there is no {file}{hint}; learn one: '
                    f"gateway route learn EXPERIMENT --name {name} --write"
                )
                return None
            try:
                self.routes[name] = _configured(route_from_json(text))
            except InvalidRoute as error:
                self.mistakes.append(f"{at}.route: {file}: {error}")
                return None
        found = self.routes[name]
        if found.route.name != name:
            self.mistakes.append(f'{at}.route: {self.files.path(name).name} holds the route "{found.route.name}"')
        if found.route.alias != alias:
            made = "is a cascade for" if name in self.written else "was learned on"
            self.mistakes.append(f'{at}.route: {name} {made} the calls of "{found.route.alias}", not {alias}')
        return found

    def unknown_upstreams(self, raw: Mapping[str, Any]) -> Iterator[str]:
        """Upstreams of routes that the config does not have."""
        known = as_object(raw.get("upstreams"))
        for name, each in self.routes.items():
            for role, ref in (("control", each.control), ("moved", each.moved)):
                if ref.upstream not in known:
                    yield (
                        f"{self._where(name)}: its {role} target is {ref.upstream}/{ref.model}, and there is "
                        f'no upstream "{ref.upstream}"{did_you_mean(ref.upstream, known)}'
                    )

    def _where(self, name: str) -> str:
        """The place that holds a route, for messages."""
        return f"cascades.{name}" if name in self.written else self.files.path(name).name


def watch_name(route: str) -> str:
    """The experiment that watches a route."""
    return f"{route}-watch"


def _watch(alias: str, route: LearnedRoute, primary: str, share: Any) -> dict[str, Any]:
    return {
        "model": alias,
        "control": route.moved.section,
        "candidate": route.control.section,
        "shadow": share,
        "repeat_control": 0.0,
        "aa": "proof",
        "primary": primary,
        "margin": route.evidence["margin"],
        "method": "anytime",
        "min_hours": 0,
        "after_verdict": "continue",
    }


def _names_route(target: Any) -> bool:
    return isinstance(target, dict) and isinstance(target.get("route"), str)


def _configured(route: LearnedRoute) -> ConfiguredRoute:
    """Raises InvalidRoute."""
    try:
        refs = [TargetRef.model_validate(each.section) for each in (route.control, route.moved)]
    except ValidationError as error:
        raise InvalidRoute(f"its targets are not valid: {error.errors()[0]['msg']}") from error
    return ConfiguredRoute(route, *refs)


def is_route(target: Target) -> bool:
    """Whether it stands for a learned route."""
    return target.upstream == ROUTE


def read_route(config: Path, name: str) -> LearnedRoute:
    """The frozen route of this name, or the cascade that the config holds. Raises CannotRun."""
    files = read_routes(config)
    if name not in files.texts and (written := _written(config, name)) is not None:
        return written
    text = files.texts.get(name)
    if text is None:
        hint = did_you_mean(name, files.texts) or f"; there are: {', '.join(files.texts) or 'none'}"
        raise CannotRun(f'no route "{name}": there is no {files.path(name)}{hint}')
    try:
        return route_from_json(text)
    except InvalidRoute as error:
        raise CannotRun(f"{files.path(name)}: {error}") from error


def _written(config: Path, name: str) -> LearnedRoute | None:
    """The cascade of this name in gateway.yaml; None if there is none. Raises CannotRun."""
    raw = yaml_sections(read_config_text(config), config.name) if config.exists() else {}
    cascade = as_object(raw.get("cascades")).get(name)
    if cascade is None:
        return None
    try:
        return cascade_route(name, CascadeConfig.model_validate(cascade))
    except (ValidationError, InvalidRule, InvalidRoute) as error:
        raise CannotRun(f"{config.name}: cascades.{name}: {error}") from error


def write_route(path: Path, route: LearnedRoute) -> None:
    """Writes the file of a new route. Raises CannotRun where there is one: plans name its digest, so it must stay."""
    try:
        with path.open("xb") as file:
            file.write(route.to_json())
    except FileExistsError:
        raise CannotRun(f"{path} exists, and a frozen route stays as it is; give the new one another --name") from None
    except OSError as error:
        raise CannotRun(f"{path}: cannot be written: {error.strerror}") from error
