"""Study files: one recipe with several variants and seeds."""

import re
from dataclasses import dataclass, field, fields
from itertools import combinations
from pathlib import Path
from typing import Any

from hf_fusion.data.arguments import TRAINING_FIELDS, DataArguments
from hf_fusion.data.files import parse_yaml, read_yaml
from hf_fusion.data.protocols import PROTOCOLS
from hf_fusion.evaluation.published_results import PublishedResult, read_published
from hf_fusion.evaluation.statistics import INTERVALS
from hf_fusion.evaluation.zero_shot import ZeroShotBaseline
from hf_fusion.studies.folds import SECONDS, in_fold
from hf_fusion.studies.protocols import Protocols, check_published, read_protocols
from hf_fusion.studies.run_folders import get_run_folder
from hf_fusion.utils.errors import DataError, FusionError, RecipeError
from hf_fusion.utils.fields import wrong_field
from hf_fusion.utils.shipped import find_file

# names in the results of a run
_RESERVED_NAMES = ("train", "validation", "test", "seed", "parameters", "last_log", "train_samples",
                   "best_checkpoint", "folds", *SECONDS)  # fmt: skip


class StudyError(FusionError, ValueError):
    """A study is not valid, or one of its runs failed; the message names it."""


@dataclass
class Study:
    """
    The content of a study file.

    Args:
        recipe (`str`): the recipe of all variants: a path, or the name of a shipped one.
        variants (`dict`): the changed recipe fields of each variant; the first variant is the reference.
        seeds (`list[int]`): the seeds of every variant, by which differences are paired.
        overrides (`dict`): recipe fields that change for all variants.
        metrics (`list[str]`): the metrics in tables and figures, the most important one first; all by default.
        interval (`str`): the method for intervals and p-values, see [`paired_difference`].
        evaluate_on (`dict`): further data for the evaluation of every checkpoint: the data fields and `split` by name.
        paper (`dict`): the differences of variants to the reference in the paper, by metric.
        pareto (`list[int]`, *optional*): for DashFusion, the numbers of words, audio frames and vision frames of a
            clip. The first of `metrics` is compared with the multiply-adds of each variant's fusion for this clip.
        pareto_variants (`list[str]`): the variants to count; all by default.
        latency (`int`, *optional*): the number of test texts on which size and speed of every variant (first seed) are
            compared with the first one.
        folds (`list`): names of the folds of a cross-validation. Every variant is trained on each of them; the metrics
            of a seed are the means over the folds. `{fold}` in the fields of a variant, of `overrides` or of
            `evaluate_on` stands for the name: `dataset: data/mine_{fold}`.
        families (`dict`): the families of comparisons for Holm's correction by name: `metrics` and `variants` of each;
            a family without one of them has all. Comparisons outside of the families are not tested. By default each
            metric is a family over all variants; other data of `evaluate_on` have families of their own.
        clusters (`str`, *optional*): a regular expression that finds the cluster of a test row in its id (its first
            group, or the whole match), such as the video or the speaker. Intervals over seeds and rows then resample
            clusters, since rows of a cluster resemble each other.
        selection (`str`): the rule by which the checkpoint of each run was selected; by default the one of the recipe.
        hash_ids (`bool`): whether the file of the study's predictions has hashes in the place of the rows' ids, where
            the terms of the data ask for it; see [`write_study_predictions`].
        protocols (`dict`): protocols for missing modalities by which every run is measured on its test split: the
            fields of [`ProtocolSettings`] by name, which is that of the protocol unless they have `protocol`.
        reference (`list[dict]`): published results that are shown beside, with the fields of [`PublishedResult`].

    A variant with `baseline`, the fields of [`ZeroShotBaseline`], is not trained: it answers for the rows of the
    others, once for all seeds.

    The `teacher` of a variant may be the name of another variant without a teacher: each student then learns from its
    run with the same seed. Students of one teacher share its answers, in the folder `teacher_answers` of the runs.
    """

    recipe: str
    variants: dict[Any, dict[str, Any] | None]
    seeds: list[int]
    overrides: dict[str, Any] = field(default_factory=dict)
    metrics: list[str] = field(default_factory=list)
    interval: str = "t"
    evaluate_on: dict[str, dict[str, Any]] = field(default_factory=dict)
    paper: dict[str, dict[str, float]] = field(default_factory=dict)
    pareto: list[int] | None = None
    pareto_variants: list[str] = field(default_factory=list)
    latency: int | None = None
    folds: list[Any] = field(default_factory=list)
    families: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    clusters: str | None = None
    selection: str = ""
    hash_ids: bool = False
    protocols: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    reference: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, path: str) -> "Study":
        """Reads a study file (see [`find_file`] for `path`); raises [`StudyError`] if it is not valid."""
        try:
            content = read_yaml(str(find_file(path, "study")))
        except (DataError, RecipeError) as error:
            raise StudyError(str(error)) from error
        if not isinstance(content, dict) or {"recipe", "variants", "seeds"} - set(content):
            raise StudyError(f"{path}: a study is a mapping with recipe, variants and seeds.")
        unknown = set(content) - {item.name for item in fields(cls)}
        if unknown:
            raise StudyError(f"{path}: unknown field {', '.join(sorted(map(str, unknown)))}.")
        study = cls(**content)
        study.check(path)
        study.variants = {str(name): changes or {} for name, changes in study.variants.items()}
        return study

    def check(self, path: str) -> None:
        """Raises [`StudyError`] if a field is not valid."""
        if wrong := wrong_field(type(self), vars(self)):
            raise StudyError(f"{path}: {wrong}")
        if not isinstance(self.variants, dict) or not self.variants:
            raise StudyError(f"{path}: variants must be a mapping from names to changed fields, got {self.variants!r}.")
        if not isinstance(self.seeds, list) or not all(type(seed) is int for seed in self.seeds) or not self.seeds:
            raise StudyError(f"{path}: seeds must be a list of whole numbers, got {self.seeds!r}.")
        if len(set(self.seeds)) < len(self.seeds):
            raise StudyError(f"{path}: a seed occurs twice: {self.seeds}.")
        if len(set(map(str, self.folds))) < len(self.folds):
            raise StudyError(f"{path}: a fold occurs twice: {self.folds}.")
        if self.interval not in INTERVALS:
            raise StudyError(f"{path}: interval must be one of {', '.join(INTERVALS)}, got {self.interval!r}.")
        if strangers := set(self.paper) - set(map(str, self.variants)):
            raise StudyError(f"{path}: paper has {min(strangers)!r}, which is not a variant.")
        for name, data_fields in self.evaluate_on.items():
            if name in _RESERVED_NAMES:
                raise StudyError(f"{path}: evaluate_on cannot have the name {name!r}, which the run uses itself.")
            if found := [field for field in TRAINING_FIELDS if field in data_fields]:
                raise StudyError(
                    f"{path}: the data {name!r} has {found[0]}, which is for training; use damage instead."
                )
            if strangers := set(data_fields) - {item.name for item in fields(DataArguments)} - {"split"}:
                raise StudyError(f"{path}: the data {name!r} has the unknown field {min(strangers)}.")
        if self.pareto is not None and (len(self.pareto) != 3 or not self.metrics):
            raise StudyError(f"{path}: pareto needs words, audio frames and vision frames, and metrics.")
        if strangers := set(self.pareto_variants) - set(map(str, self.variants)):
            raise StudyError(f"{path}: pareto_variants has {min(strangers)!r}, which is not a variant.")
        self._check_families(path)
        if self.latency is not None and (type(self.latency) is not int or self.latency < 1):
            raise StudyError(f"{path}: latency must be a number of texts, got {self.latency!r}.")
        self._check_baselines(path)
        if self.protocols and len(self.trained) < len(self.variants):
            raise StudyError(f"{path}: protocols need checkpoints, which variants with baseline do not have.")
        try:
            check_published(self.protocol_settings, self.published)
        except (DataError, RecipeError) as error:
            raise StudyError(f"{path}: {error}") from error
        for name in self.variants:
            teacher = self.find_teacher(name)
            if teacher is not None and self.find_teacher(teacher) is not None:
                raise StudyError(f"{path}: the teacher of {name!r}, {teacher!r}, has a teacher itself.")

    def _check_families(self, path):
        for name, family in self.families.items():
            if strangers := set(family) - {"metrics", "variants"}:
                raise StudyError(f"{path}: families.{name} has the unknown field {min(strangers)!r}.")
            known = list(map(str, self.variants))[1:]
            if strangers := set(map(str, family.get("variants", ()))) - set(known):
                raise StudyError(f"{path}: families.{name} has {min(strangers)!r}; compared are {', '.join(known)}.")
        for (name, family), (other, second) in combinations(self.families.items(), 2):
            if all(_meet(family.get(part), second.get(part)) for part in ("metrics", "variants")):
                raise StudyError(f"{path}: the families {name!r} and {other!r} share a comparison.")
        if self.clusters is not None and self.folds:
            raise StudyError(f"{path}: with folds these are resampled: remove clusters.")
        if self.clusters is not None:
            try:
                re.compile(self.clusters)
            except re.error as error:
                raise StudyError(
                    f"{path}: clusters must be a regular expression, got {self.clusters!r}: {error}."
                ) from error

    def _check_baselines(self, path):
        names = [name for name in self.variants if self.is_baseline(name)]
        try:
            for name in names:
                ZeroShotBaseline.from_fields(self.variants[name]["baseline"])
        except RecipeError as error:
            raise StudyError(f"{path}: {name!r}: {error}") from error
        if next(iter(self.variants)) in names:
            raise StudyError(f"{path}: the first variant is the reference, which must be trained: {names[0]!r} is not.")
        if wrong := [name for name in self.variants if self.find_teacher(name) in names]:
            raise StudyError(f"{path}: the teacher of {wrong[0]!r} is a baseline, which is no DyFuLM.")
        if wrong := [name for name in self.pareto_variants if name in names]:
            raise StudyError(f"{path}: pareto_variants has {wrong[0]!r}, which is a baseline.")

    def is_baseline(self, name: Any) -> bool:
        """Whether a variant is not trained."""
        return "baseline" in (self.variants[name] or {})

    @property
    def trained(self) -> list[Any]:
        """`list`: the names of the variants that are trained."""
        return [name for name in self.variants if not self.is_baseline(name)]

    @property
    def protocol_settings(self) -> Protocols:
        """`dict[str, ProtocolSettings]`: the protocols by name."""
        return read_protocols(self.protocols)

    @property
    def published(self) -> list[PublishedResult]:
        """`list[PublishedResult]`: the published results."""
        return read_published(self.reference, set(PROTOCOLS))

    def find_teacher(self, name: str) -> str | None:
        """Returns the variant that is the teacher of a variant, if any."""
        teacher = (self.variants.get(name) or {}).get("teacher")
        return teacher if teacher in self.variants else None

    @property
    def runs(self) -> list[tuple[str, int, Any]]:
        """`list[tuple]`: variant, seed and fold of all runs in their order; the fold is `None` without folds."""
        folds = self.folds or [None]
        return [(name, seed, fold) for seed in self.seeds for fold in folds for name in self.variants]

    def changes(self, name: str, seed: int, folder: Path, fold: Any = None) -> dict[str, Any]:
        """
        Returns the changed recipe fields of a run; `folder` holds the runs.

        Raises:
            StudyError: if all folds would have the same fields.
        """
        fields = {**self.overrides, **self.variants[name]}
        changes = {**in_fold(fields, fold), "seed": seed}
        if fold is not None and in_fold(fields, fold) == fields:
            raise StudyError(
                f"The folds of {name!r} do not differ: name their data, such as dataset: data/mine_{{fold}}."
            )
        teacher = self.find_teacher(name)
        if teacher is None:
            return changes
        return {**changes, "teacher": str(get_run_folder(folder, teacher, seed, fold))}

    def first_run_folder(self, folder: Path, name: str) -> Path:
        """Returns the folder of the first run of a variant."""
        return get_run_folder(folder, name, self.seeds[0], self.folds[0] if self.folds else None)

    def shown(self, summary: dict[str, dict]) -> list[str]:
        """
        Returns the metrics for tables: `metrics` as far as present, or all except the loss (its scale depends on
        weights).
        """
        known = next(iter(summary.values()))["mean"]
        return [name for name in self.metrics or known if name in known and (self.metrics or name != "loss")]

    def set(self, assignment: str) -> None:
        """
        Changes a recipe field for all variants (`dataset=reviews.csv`), or a field of one variant or of other data
        (`variants.NAME.FIELD=VALUE`, `evaluate_on.NAME.FIELD=VALUE`).

        Raises:
            StudyError: if it is not an assignment, or the variant or data does not exist.
        """
        for place in ("variants", "evaluate_on"):
            for name, known in getattr(self, place).items():  # names may hold dots and equals signs
                if assignment.startswith(prefix := f"{place}.{name}."):
                    name_of_field, equals, value = assignment.removeprefix(prefix).partition("=")
                    if name_of_field.startswith("baseline.") and "baseline" in known:
                        known, name_of_field = known["baseline"], name_of_field.removeprefix("baseline.")
                    if equals:
                        known[name_of_field] = _parse_value(value)
                        return
        path, equals, value = assignment.partition("=")
        if not equals:
            raise StudyError(f"A change must be FIELD=VALUE, got {assignment!r}.")
        if "." in path:
            known = getattr(self, path.partition(".")[0], None) or {}
            names = f"; known are {', '.join(known)}" if isinstance(known, dict) and known else ""
            raise StudyError(f"{path}: there is no {path.rpartition('.')[0]!r}{names}.")
        self.overrides[path] = _parse_value(value)


def _meet(names, others):
    """Whether two lists of names have one in common; `None` holds all names."""
    return names is None or others is None or bool(set(map(str, names)) & set(map(str, others)))


def _parse_value(value):
    try:
        return parse_yaml(value, "The value of a change")
    except DataError as error:
        raise StudyError(str(error)) from error
