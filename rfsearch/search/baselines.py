"""Networks of timm that are trained like the candidates of a study, so as to stand beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import optuna

from rfsearch.retrofit.pretrained import PretrainedSpace
from rfsearch.search.references import Network, enqueue_references
from rfsearch.space.trial_attributes import BASELINE
from rfsearch.space.trial_gates import plain
from rfsearch.training.traced_network import timm_network

if TYPE_CHECKING:
    from rfsearch.search.references import Trains


def enqueue_baselines(study: optuna.Study, names: Sequence[str]) -> None:
    """Let the workers of a study begin with the baselines that it does not have yet.

    Args:
        study: Where the trials go.
        names: Names of models in timm.
    """
    enqueue_references(study, BASELINE, names)


def prepare_baseline(trial: optuna.Trial, objective: Trains) -> Network:
    """Describe and build the baseline that a trial is about.

    Raises:
        ValueError: If it does not end in a map, or its costs cannot be known.
    """
    task, name = objective.task, trial.user_attrs[BASELINE]
    if isinstance(objective.space, PretrainedSpace) and name in objective.space.presets:
        return _prepare_preset(trial, objective, objective.space)
    described = timm_network(name, task.in_chans, task.num_classes)
    (field,) = described.receptive_fields().values()
    parameters, flops = described.cost(task.input_size, task.in_chans)
    trial.set_user_attr("trf_size", field.size)
    trial.set_user_attr("output_stride", plain(field.stride))
    trial.set_user_attr("global_layers", ",".join(described.traced.global_layers))
    trial.set_user_attr("params_m", parameters / 1e6)
    trial.set_user_attr("flops_g", flops / 1e9)
    return Network(task.build(name))


def _prepare_preset(trial: optuna.Trial, objective: Trains, space: PretrainedSpace) -> Network:
    """A trained network as it is given, or as people change it."""
    given = space.build(**space.presets[trial.user_attrs[BASELINE]])
    described, constraint = objective.describe(trial, given), objective.constraint
    main = constraint.main_level(described)
    field = described.receptive_field(main, described.axes[0])
    trial.set_user_attr("trf_size", field.size)
    trial.set_user_attr("output_stride", plain(field.stride))
    levels = constraint.judged_levels(described)
    return Network(objective.task.build(given), levels, main)
