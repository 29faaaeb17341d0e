"""`python -m imgdiff.eval benchmark=mmvp model.path=DIR`: ask a benchmark, write its scores."""

from imgdiff.eval.config import EvalConfig, register
from imgdiff.eval.run import run
from imgdiff.launch import run_main

if __name__ == "__main__":
    register()
    run_main("eval", EvalConfig, run)
