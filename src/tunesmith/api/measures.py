"""Builds what a run measures: held-out batches, tasks, probes."""

from collections.abc import Callable
from pathlib import Path

from tunesmith.adapters.base import Attached
from tunesmith.api.build import Learner, Rows
from tunesmith.data.collate import collate
from tunesmith.data.example import Batch
from tunesmith.data.order import plan_batches
from tunesmith.data.template import Renderer
from tunesmith.evaluate.probes import base as probes
from tunesmith.evaluate.task import TaskRows, prepare_task
from tunesmith.models.base import Base
from tunesmith.recipe import Recipe
from tunesmith.runs.folder import RunFolder
