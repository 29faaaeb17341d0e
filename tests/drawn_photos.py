"""Small COCO folders drawn for tests: noisy grey photos with one-coloured objects."""

import json

import numpy as np
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 240, 180
NAMES = {1: "apple", 2: "dog", 3: "cup", 4: "skis"}
COLOURS = {1: (200, 30, 30), 2: (30, 30, 200), 3: (240, 220, 40), 4: (10, 10, 10)}


def ring(cx, cy, rx, ry, count=32):
    """An ellipse as a COCO polygon."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    points = np.stack([cx + rx * np.cos(angle), cy + ry * np.sin(angle)], axis=1)
    return points.ravel().tolist()


class Folder:
    """A COCO folder built photo by photo."""

    def __init__(self, root, split="val2017"):
        self.root, self.split = root, split
        self.images, self.rows = [], []
        (root / "annotations").mkdir(exist_ok=True, parents=True)
        (root / split).mkdir()

    def photo(self, *objects, mode="RGB"):
        """`objects` are (category, polygon, changes); each is painted in its category's colour."""
        number = len(self.images) + 1
        noise = np.random.default_rng(number).integers(110, 140, (HEIGHT, WIDTH, 3))
        image = Image.fromarray(noise.astype(np.uint8))
        for category, polygon, changes in objects:
            ImageDraw.Draw(image).polygon(polygon, fill=COLOURS[category])
            self._annotate(number, category, polygon, changes)
        name = f"{number:03d}.png" if mode == "RGB" else f"{number:03d}.jpg"
        image.convert(mode).save(self.root / self.split / name)
        size = {"width": WIDTH, "height": HEIGHT}
        self.images.append({"id": number, "file_name": name, **size})
        return self

    def _annotate(self, number, category, polygon, changes):
        points = np.array(polygon).reshape(-1, 2)
        low, size = points.min(axis=0), np.ptp(points, axis=0)
        row = {"id": len(self.rows) + 1, "image_id": number, "category_id": category}
        row |= {"segmentation": [polygon], "bbox": [*low.tolist(), *size.tolist()], "iscrowd": 0}
        self.rows.append(row | changes)

    def write(self):
        categories = [{"id": key, "name": name} for key, name in NAMES.items()]
        content = {"images": self.images, "annotations": self.rows, "categories": categories}
        path = self.root / "annotations" / f"instances_{self.split}.json"
        path.write_text(json.dumps(content))
        return str(self.root)


def five_photos(root):
    """Five photos, one round object each: apple, dog, cup, dog, apple."""
    folder = Folder(root)
    places = [(1, 120, 90), (2, 60, 70), (3, 150, 100), (2, 90, 110), (1, 140, 60)]
    for k, (category, x, y) in enumerate(places):
        folder.photo((category, ring(x, y, 30 + k, 28 + k), {}))
    return folder.write()
