"""`python -m imgdiff.train data.synth=DIR output_dir=DIR`: fine-tune on instruction data."""

from imgdiff.launch import let_grow, run_main
from imgdiff.train.config import TrainConfig, register
from imgdiff.train.run import run

if __name__ == "__main__":
    register()
    let_grow(["data.sources"])
    run_main("train", TrainConfig, run)
