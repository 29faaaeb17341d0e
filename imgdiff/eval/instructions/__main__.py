"""`python -m imgdiff.eval.instructions benchmark=spot_the_diff benchmark.root=DIR`: write them."""

from imgdiff.eval.instructions.write import InstructionsConfig, register, run
from imgdiff.launch import run_main

if __name__ == "__main__":
    register()
    run_main("instructions", InstructionsConfig, run, command="eval.instructions")
