"""Where scripts written before the budgets had a chamber of their own import `Planner` from."""

from admm_exp.pruning.budget.planner import GroupPlan, Plan, Planner

__all__ = ["GroupPlan", "Plan", "Planner"]
