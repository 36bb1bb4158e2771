#!/usr/bin/env python3
"""LiteLLM's local complexity rules on labelled requests, one JSON object per line.

usage: litellm_rules.py FILE…     needs `pip install litellm`
Rows on which labelers disagree (`agree` is false) are left out. Prints accuracy at the best threshold.
"""
import json
import sys

from litellm.router_strategy.complexity_router.complexity_router import ComplexityRouter

router = ComplexityRouter(model_name="auto", litellm_router_instance=None)
rows = [json.loads(line) for file in sys.argv[1:] for line in open(file, encoding="utf-8")]
rows = [row for row in rows if row.get("agree", True)]
scored = [(router.classify(row["request"])[1], row["label"] == "pro") for row in rows]
right = lambda threshold: sum((score >= threshold) == pro for score, pro in scored)
best = max({score for score, _ in scored} | {float("inf")}, key=right)
print(f"{len(scored)} requests, best threshold {best:.3f}, accuracy {right(best) / len(scored):.3f}")
