"""The registry of learning rules."""

from raysweep.workloads.registry import Registry
from raysweep.workloads.rnn.rules.bptt import BPTT
from raysweep.workloads.rnn.rules.dni import DNI
from raysweep.workloads.rnn.rules.efficient_bptt import E_BPTT
from raysweep.workloads.rnn.rules.eprop import EPROP
from raysweep.workloads.rnn.rules.future_bptt import F_BPTT
from raysweep.workloads.rnn.rules.kernl import KERNL
from raysweep.workloads.rnn.rules.kf_rtrl import KF_RTRL
from raysweep.workloads.rnn.rules.ok import OK
from raysweep.workloads.rnn.rules.pp_prop import PP_PROP
from raysweep.workloads.rnn.rules.rflo import RFLO
from raysweep.workloads.rnn.rules.rkf_rtrl import RKF_RTRL
from raysweep.workloads.rnn.rules.rtrl import RTRL
from raysweep.workloads.rnn.rules.rule import LearningRule
from raysweep.workloads.rnn.rules.snap import SNAP
from raysweep.workloads.rnn.rules.sparse_rtrl import SPARSE_RTRL
from raysweep.workloads.rnn.rules.traces import TRACES
from raysweep.workloads.rnn.rules.uoro import UORO

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
        "pp_prop": PP_PROP,
        "rflo": RFLO,
        "rkf_rtrl": RKF_RTRL,
        "rtrl": RTRL,
        "snap": SNAP,
        "sparse_rtrl": SPARSE_RTRL,
        "traces": TRACES,
        "uoro": UORO,
    },
)
