"""`python -m imgdiff.train.preview samples=8`, with the settings of a run: see what it learns."""

from imgdiff.launch import let_grow, run_main
from imgdiff.train.preview.config import PreviewConfig, register
from imgdiff.train.preview.run import run

if __name__ == "__main__":
    register()
    let_grow(["data.sources"])
    run_main("preview", PreviewConfig, run, command="train.preview")
