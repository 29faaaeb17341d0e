"""`python -m imgdiff.train.chat checkpoint=DIR image=a.jpg image2=b.jpg question="..."`: ask."""

from imgdiff.launch import run_main, take_literally
from imgdiff.train.chat.config import TEXTS, ChatConfig, register
from imgdiff.train.chat.run import run

if __name__ == "__main__":
    register()
    take_literally(TEXTS)
    run_main("chat", ChatConfig, run, command="train.chat")
