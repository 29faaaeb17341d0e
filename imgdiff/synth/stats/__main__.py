"""`python -m imgdiff.synth.stats RUN`: writes the stats.html of a finished run anew."""

from imgdiff.synth.stats.command import main

if __name__ == "__main__":
    main()
