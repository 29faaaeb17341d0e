"""`python -m imgdiff.train data.synth=DIR output_dir=DIR`: fine-tune on instruction data."""

from imgdiff.launch import run_main
from imgdiff.train.config import TrainConfig, register
from imgdiff.train.run import run

if __name__ == "__main__":
    register()
    run_main("train", TrainConfig, run)
