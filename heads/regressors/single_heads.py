"""Heads by name. Add new heads to this module.

1. Write an estimator with the protocol `tier4k.heads.regressors.base.Head`; `ridge.py` is a short example.
   Derive it from `BaseHead` and give its options `limits`.
2. Add the name of the head to `tier4k.heads.regressors.choices.HeadName`, which the help lists.
3. Add one entry to `SINGLE_HEADS` below.

Options of the command line, sweeps, runs, the ensemble and the tests of all heads read that entry.
`tier4k.heads.regressors.registry` adds the ensemble, which is made of these heads, and has the functions that
runs call.
"""

from tier4k.heads.regressors.head_spec import HeadSpec
from tier4k.heads.regressors.kernel import KernelRidgeHead, SVRHead
from tier4k.heads.regressors.mlp.estimator import MLPHead
from tier4k.heads.regressors.ridge import RidgeHead

SINGLE_HEADS: dict[str, HeadSpec] = {
    "mlp": HeadSpec(MLPHead),
    "gated": HeadSpec(MLPHead, {"fusion": "gated"}),
    "bilinear": HeadSpec(MLPHead, {"fusion": "bilinear"}),
    "ridge": HeadSpec(RidgeHead),
    "kernel-ridge": HeadSpec(KernelRidgeHead),
    "svr": HeadSpec(SVRHead),
}
