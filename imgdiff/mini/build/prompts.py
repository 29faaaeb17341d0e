"""The questions that the mini vision-language models are trained to answer, word for word.

Source: the released pipeline's generate_final_data_new_edit.py ("the the" included).
"""

REGION_PROMPT = "Please provide a clear description for this region: {box}."
STAGE_TWO_PROMPT = (
    "Analyse the the left image and the right image (separated by the black vertical bar). "
    "The detail within the red bounding box in the left image is: {left}, while the detail within "
    "the red bounding box in the right image is: {right}. What is their difference? "
    "Answer with a few concise sentences."
)
DIFFERENCE_QUESTION = (
    "Analyse the left image and the right image (separated by the black vertical bar). What is "
    "the difference between the red bounding box area in each image? Answer the question in a few "
    "concise sentences."
)
