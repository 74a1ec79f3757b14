"""Learning rules by name."""

from workloads.registry import Registry
from workloads.rules.bptt import BPTT
from workloads.rules.dni import DNI
from workloads.rules.efficient_bptt import E_BPTT
from workloads.rules.eprop import EPROP
from workloads.rules.future_bptt import F_BPTT
from workloads.rules.kernl import KERNL
from workloads.rules.kf_rtrl import KF_RTRL
from workloads.rules.ok import OK
from workloads.rules.rflo import RFLO
from workloads.rules.rkf_rtrl import RKF_RTRL
from workloads.rules.rtrl import RTRL
from workloads.rules.rule import LearningRule
from workloads.rules.snap import SNAP
from workloads.rules.sparse_rtrl import SPARSE_RTRL
from workloads.rules.traces import TRACES
from workloads.rules.uoro import UORO

RULES: Registry[LearningRule] = Registry(
    "method",
    {
        "bptt": BPTT,
        "dni": DNI,
        "e_bptt": E_BPTT,
        "eprop": EPROP,
        "f_bptt": F_BPTT,
        "kernl": KERNL,
        "kf_rtrl": KF_RTRL,
        "ok": OK,
        "rflo": RFLO,
        "rkf_rtrl": RKF_RTRL,
        "rtrl": RTRL,
        "snap": SNAP,
        "sparse_rtrl": SPARSE_RTRL,
        "traces": TRACES,
        "uoro": UORO,
    },
)
