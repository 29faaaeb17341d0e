"""`python -m imgdiff.train.export checkpoint=DIR format=hf output_dir=DIR`: merge and convert."""

from imgdiff.launch import run_main
from imgdiff.train.export.config import ExportConfig, register
from imgdiff.train.export.run import run

if __name__ == "__main__":
    register()
    run_main("export", ExportConfig, run, command="train.export")
