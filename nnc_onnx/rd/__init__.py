"""Rate-distortion planning: which step size every tensor gets, so that the outputs suffer least for the size.

The model is run with its weights replaced by quantized ones, tensor by tensor, and what that does to the outputs
is weighed against the bits it saves. See ``docs/planning.md``.
"""

from __future__ import annotations

from .analysis import analyze
from .analysis_page import analysis_page, write_page
from .analysis_report import Analysis, AnalysisPoint, AnalysisRung, AnalysisTensor
from .calibration import load_calibration
from .goals import PRESETS, Goal, Preset
from .hook import planner_for
from .planner import Plan, plan_quality

__all__ = [
    "PRESETS",
    "Analysis",
    "AnalysisPoint",
    "AnalysisRung",
    "AnalysisTensor",
    "Goal",
    "Plan",
    "Preset",
    "analysis_page",
    "analyze",
    "load_calibration",
    "plan_quality",
    "planner_for",
    "write_page",
]
