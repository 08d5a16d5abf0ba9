"""The published tables: columns, Arrow types, nullability, and which columns make the content.

Within one SCHEMA_VERSION columns are only added; readers ignore columns that they do not know.
"""

from __future__ import annotations

import pyarrow as pa

SCHEMA_VERSION = 1


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


VIDEOS = pa.schema(
    [
        _required("video_id", pa.string()),  # the source's id; for a folder the media hash
        _required("source_uri", pa.string()),  # relative to the source, never to a machine
        pa.field("media_sha256", pa.string()),  # null where the bytes could not be had
        pa.field("split", pa.string()),  # null where there is no video id to split by
        _required("status", pa.string()),
        pa.field("reason_detail", pa.string()),
        _required("retryable", pa.bool_()),
        _required("attempts", pa.int32()),
        pa.field("licence", pa.string()),
        pa.field("duration_ms", pa.int64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        _required("clips", pa.int32()),
    ]
)

CLIPS = pa.schema(
    [
        _required("clip_id", pa.string()),
        _required("video_id", pa.string()),
        _required("class_name", pa.string()),
        _required("object_id", pa.string()),
        _required("start_ms", pa.int64()),
        _required("end_ms", pa.int64()),
        _required("split", pa.string()),
        _required("status", pa.string()),
        pa.field("reason_detail", pa.string()),
        _required("retryable", pa.bool_()),
        _required("frames", pa.int32()),  # frames in which the object was followed
        _required("crops", pa.int32()),  # of these, how many became crops
        pa.field("identity", pa.string()),  # the object, across videos; null where unknown
    ]
)

CROPS = pa.schema(
    [
        _required("crop_id", pa.string()),
        _required("clip_id", pa.string()),
        _required("video_id", pa.string()),
        _required("split", pa.string()),
        _required("timestamp_ms", pa.int64()),
        _required("class_name", pa.string()),
        _required("detector", pa.string()),
        _required("score", pa.float64()),
        _required("xmin", pa.float64()),  # fractions of the frame
        _required("xmax", pa.float64()),
        _required("ymin", pa.float64()),
        _required("ymax", pa.float64()),
        _required("frame_width", pa.int32()),
        _required("frame_height", pa.int32()),
        _required("transform", pa.list_(pa.float64())),  # left, top, side, size: see CropTransform
        _required("sharpness", pa.float64()),  # variance of the Laplacian, grey levels squared
        pa.field("pose_cluster", pa.int32()),
        pa.field("azimuth_deg", pa.float64()),  # null where unknown
        pa.field("elevation_deg", pa.float64()),  # null where unknown
        pa.field("read_azimuth_deg", pa.float64()),  # as an embedder reads it; null where none does
        pa.field("certainty", pa.float32()),  # length of that reading, about 0 to 1
        _required("picture_path", pa.string()),
        _required("picture_row", pa.int64()),
    ]
)

# The Hugging Face Image convention. In shards this table also carries the crop stage's own columns.
IMAGE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
PICTURES = pa.schema([pa.field("crop_id", pa.string()), pa.field("image", IMAGE)])

TRIPLETS = pa.schema(
    [
        _required("triplet_id", pa.string()),
        _required("split", pa.string()),
        _required("id_crop", pa.string()),
        _required("pose_crop", pa.string()),
        _required("target_crop", pa.string()),
        _required("clip_id", pa.string()),
        _required("pose_clip_id", pa.string()),
        _required("video_id", pa.string()),
        _required("pose_video_id", pa.string()),
        _required("id_ms", pa.int64()),
        _required("target_ms", pa.int64()),
        _required("pose_ms", pa.int64()),
        _required("id_cluster", pa.int32()),
        _required("pose_cluster", pa.int32()),
        _required("similarity", pa.float32()),
        pa.field("target_cluster", pa.int32()),  # null in versions made before it
        pa.field("trust", pa.float32()),  # probability of a right pose picture; null where unknown
    ]
)

TABLES = {"videos": VIDEOS, "clips": CLIPS, "crops": CROPS, "triplets": TRIPLETS}

# What a dataset version promises to be equal. Free text, attempts, file layout and the rows of
# failures stay out: a broken file beside good ones leaves the version of the good ones alone.
CONTENT_COLUMNS = {
    "videos": ("video_id", "media_sha256", "split", "licence"),
    "clips": ("clip_id", "video_id", "class_name", "object_id", "start_ms", "end_ms", "split"),
    "crops": (
        "crop_id", "clip_id", "video_id", "split", "timestamp_ms", "class_name", "detector",
        "score", "xmin", "xmax", "ymin", "ymax", "transform", "pose_cluster", "azimuth_deg",
    ),
    "triplets": (
        "triplet_id", "split", "id_crop", "pose_crop", "target_crop", "id_cluster",
        "pose_cluster", "similarity",
    ),
}  # fmt: skip

# Content too, and later additions: a column that says nothing stays out, so that versions made
# before it, and versions of embedders that read no direction, keep their names.
ADDED_CONTENT = {"crops": ("read_azimuth_deg",), "triplets": ("trust",)}
