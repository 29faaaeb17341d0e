"""Image-Edit-Request (Tan et al., ACL 2019): one edit per item, told as an instruction.

Annotations (github.com/airsplay/VisualRelationships, `dataset/adobe`): `{train,valid,test}.json`,
a list of `{"uid", "img0", "img1", "sents"}`; three sentences in valid and test, one in train. The
protocol is the authors': one item per uid, its sentences as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from imgdiff.core.errors import DataError
from imgdiff.core.files import inside
from imgdiff.eval.annotations import first_existing, read_records, text_of, texts_of
from imgdiff.eval.records import WITHOUT_REFERENCE, CaptionItem, CaptionItems, LeftOut

REMEDY = (
    "Point benchmark.annotations at dataset/adobe/test.json of "
    "github.com/airsplay/VisualRelationships."
)
ID_KEY = "uid"
IMAGES_REMEDY = "Put the images there, or set benchmark.images to their folder."


def load_image_edit_request(
    annotations: Path, images: Path, kinds: Mapping[str, str]
) -> CaptionItems:
    """Read an annotation file; `images` need not exist to score captions that exist already.

    DataError names the file and the item, also for a uid that occurs twice.
    """
    items, left_out = [], []
    for place, record in read_records(annotations, REMEDY):
        uid = text_of(place, record, ID_KEY, REMEDY)
        references = texts_of(place, record, "sents", REMEDY)
        names = [text_of(place, record, key, REMEDY) for key in ("img0", "img1")]
        if not references:
            left_out.append(uid)
            continue
        first, second = (inside(images, name) for name in names)
        items.append(
            CaptionItem(
                id=uid,
                subject=uid,
                images=(first, second),
                references=references,
                kind=kinds.get(uid, ""),
            )
        )
    doubled = [uid for uid, count in Counter(item.id for item in items).items() if count > 1]
    if doubled:
        raise DataError(
            f"{annotations}: uid {doubled[0]!r} occurs twice; ids must differ. {REMEDY}"
        )
    if not items:
        raise DataError(f"{annotations}: no item has a sentence. {REMEDY}")
    return CaptionItems(
        items=tuple(items),
        left_out=(LeftOut(reason=WITHOUT_REFERENCE, ids=tuple(left_out)),) if left_out else (),
        unscored=frozenset(left_out),
    )


def edit_annotations(root: Path, split: str) -> Path:
    """`{split}.json` of a copy of the authors' repository, or of a folder that holds it."""
    folders = (root / "dataset" / "adobe", root)
    return first_existing([folder / f"{split}.json" for folder in folders], "annotations", REMEDY)


def edit_images(root: Path, split: str) -> Path:
    """The folder of the images, below the same root."""
    bases = (root / "dataset" / "adobe" / "images", root / "images")
    folders = [place for base in bases for place in (base / split, base)]
    return first_existing(folders, "folder of images", IMAGES_REMEDY)
