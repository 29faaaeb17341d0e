"""`python -m imgdiff.eval benchmark=mmvp model.path=DIR`: ask a benchmark, write its scores."""

import sys

from imgdiff.eval.config import TEXTS, EvalConfig, register
from imgdiff.eval.run import run
from imgdiff.launch import run_main, take_literally

if __name__ == "__main__":
    register()
    if not {"-m", "--multirun"} & set(sys.argv):  # there a comma parts the jobs
        take_literally(TEXTS)
    run_main("eval", EvalConfig, run)
