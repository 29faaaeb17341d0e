"""`python -m imgdiff.synth`: captions to image pairs to difference instructions."""

from imgdiff.launch import run_main
from imgdiff.synth.config import SynthConfig, register
from imgdiff.synth.pipeline import run

if __name__ == "__main__":
    register()
    run_main("synth", SynthConfig, run)
